//! Sub-queries in any clause and with any nulls. DataFusion runs `IN` and `EXISTS` as conditions of `WHERE` only, where null is
//! the same as false.

mod decorrelation;
mod membership;
mod parts;
mod placement;
mod totals;

pub(super) use decorrelation::{PredicateSubqueries, ScalarSubqueries};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use parts::{mentions, subquery_of};

/// Rewrites sub-queries so that the optimiser makes joins of them. The columns of the plan keep their names and types.
#[derive(Debug)]
pub(in crate::engine) struct SubqueryValues;

impl AnalyzerRule for SubqueryValues {
    fn name(&self) -> &str {
        "subquery_values"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut has_subqueries = false;
        plan.apply(|node| {
            has_subqueries |= mentions(node, |part| subquery_of(part).is_some())?;
            Ok(match has_subqueries {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        if !has_subqueries {
            return Ok(plan);
        }
        let mut has_changes = false;
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let node = match has_changes {
                true => with_new_schema(node)?,
                false => node,
            };
            if !mentions(&node, |part| subquery_of(part).is_some())? {
                return Ok(Transformed::no(node));
            }
            check_levels(&node)?;
            let rewritten = totals::rewrite(node)?
                .transform_data(membership::rewrite)?
                .transform_data(placement::place)?;
            has_changes |= rewritten.transformed;
            Ok(rewritten)
        });
        rewritten.map(|rewritten| rewritten.data)
    }
}

/// Whether the parts of an input may be null is part of the schema of a node.
fn with_new_schema(node: LogicalPlan) -> Result<LogicalPlan> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::SubqueryAlias(_) => node.recompute_schema(),
        node => Ok(node),
    }
}

/// Refuses sub-queries that refer to a query which is not the next outer one. DataFusion fails on them after the optimisation,
/// with the names of its own columns.
fn check_levels(node: &LogicalPlan) -> Result<()> {
    let schema = merge_schema(&node.inputs());
    let mut missing = None;
    node.apply_expressions(|expression| {
        expression.apply(|part| {
            for outer in subquery_of(part).map_or(&[][..], |found| &found.outer_ref_columns) {
                outer.apply(|outer| {
                    if let Expr::OuterReferenceColumn(_, column) = outer
                        && !schema.has_column(column)
                    {
                        missing = Some(column.flat_name());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    match missing {
        Some(column) => plan_err!(
            "a sub-query refers to {column}, which is not a column of the query right around it: this is not supported; join the tables in the sub-query, or compare with the column in the query between them"
        ),
        None => Ok(()),
    }
}
