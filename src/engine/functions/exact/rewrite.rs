//! Replaces operators and calls with wrong results in DataFusion in a plan whose types are known, or refuses them.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::calls::{is_replaced_call, replace_call};
use super::expressions::{is_replaced_operator, replace_operator};
use super::kinds::type_of;
use super::operators::Exact;
use super::set_operations::{count_equal_rows, is_counted};

/// Replaces what has wrong results. The columns of the plan keep their names and types.
#[derive(Debug)]
pub(in crate::engine) struct ExactResults;

impl AnalyzerRule for ExactResults {
    fn name(&self) -> &str {
        "exact_results"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if !may_change(&plan)? {
            return Ok(plan);
        }
        let exact = plan.transform_up_with_subqueries(|node| {
            let counted = count_equal_rows(node)?;
            if counted.transformed {
                return Ok(counted);
            }
            let node = counted.data;
            let names = NamePreserver::new(&node);
            let schema = merge_schema(&node.inputs());
            let node = node.map_expressions(|expression| {
                let name = names.save(&expression);
                let exact = expression.transform_up(|part| replace(part, &schema))?;
                Ok(exact.update_data(|expression| name.restore(expression)))
            })?;
            let node = node.transform_data(|node| sort_by_length(node, &schema))?;
            match node.transformed {
                true => node.map_data(LogicalPlan::recompute_schema),
                false => Ok(node),
            }
        });
        exact.map(|exact| exact.data)
    }
}

/// Whether the plan contains anything that may have to be replaced. Most plans do not.
fn may_change(plan: &LogicalPlan) -> Result<bool> {
    let mut may_change = false;
    plan.apply_with_subqueries(|node| {
        may_change |= is_counted(node) || sorts_intervals(node);
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                may_change |= is_replaced_operator(part) || is_replaced_call(part);
                Ok(match may_change {
                    true => TreeNodeRecursion::Stop,
                    false => TreeNodeRecursion::Continue,
                })
            })
        })
    })?;
    Ok(may_change)
}

fn replace(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let replaced = match &part {
        part if is_replaced_operator(part) => replace_operator(part, schema)?,
        part if is_replaced_call(part) => replace_call(part, schema)?,
        _ => None,
    };
    Ok(match replaced {
        Some(exact) => Transformed::yes(exact),
        None => Transformed::no(part),
    })
}

fn sorts_intervals(node: &LogicalPlan) -> bool {
    let LogicalPlan::Sort(sort) = node else {
        return false;
    };
    let kinds = sort.expr.iter();
    let mut kinds = kinds.map(|key| type_of(&key.expr, sort.input.schema()));
    kinds.any(|kind| matches!(kind, Some(DataType::Interval(_))))
}

/// Sorts intervals by their lengths.
fn sort_by_length(node: LogicalPlan, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Sort(mut sort) = node else {
        return Ok(Transformed::no(node));
    };
    let mut has_intervals = false;
    for key in &mut sort.expr {
        if let Some(DataType::Interval(_)) = type_of(&key.expr, schema) {
            has_intervals = true;
            key.expr = Exact::Length.call(vec![std::mem::take(&mut key.expr)]);
        }
    }
    let node = LogicalPlan::Sort(sort);
    Ok(match has_intervals {
        true => Transformed::yes(node),
        false => Transformed::no(node),
    })
}
