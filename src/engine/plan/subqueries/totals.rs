//! Sub-queries with exactly one row, or with one row at most: totals, that is, aggregates without groups. DataFusion's join of a
//! correlated total has no row where the total is of no rows.

use std::sync::Arc;

use crate::engine::named_expressions::map_named_expressions;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Filter, Projection, Subquery};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr, lit, not, when,
};

/// Replaces `IN` and `EXISTS` of totals by comparisons with the total.
pub(super) fn rewrite(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    map_named_expressions(node, |expression| {
        expression.transform_up(|part| {
            let replaced = match &part {
                Expr::InSubquery(found) => compared_total(found)?,
                Expr::Exists(found) => existing_total(found)?,
                _ => None,
            };
            Ok(match replaced {
                Some(replaced) => Transformed::yes(replaced),
                None => Transformed::no(part),
            })
        })
    })
}

/// A sub-query of a total.
struct Total {
    /// The row of the total, with the columns of the sub-query.
    row: Arc<LogicalPlan>,
    /// The value of the condition in `HAVING`.
    condition: Option<Arc<LogicalPlan>>,
}

impl Total {
    fn new(query: &Arc<LogicalPlan>) -> Result<Option<Self>> {
        Ok(match &**query {
            LogicalPlan::Aggregate(step) if step.group_expr.is_empty() => Some(Self {
                row: Arc::clone(query),
                condition: None,
            }),
            LogicalPlan::Filter(Filter {
                predicate, input, ..
            }) => match &**input {
                LogicalPlan::Aggregate(step) if step.group_expr.is_empty() => {
                    let value = predicate.clone().alias("condition");
                    let condition = LogicalPlanBuilder::new_from_arc(Arc::clone(input))
                        .project(vec![value])?
                        .build()?;
                    Some(Self {
                        row: Arc::clone(input),
                        condition: Some(Arc::new(condition)),
                    })
                }
                _ => None,
            },
            LogicalPlan::Projection(step) => match Self::new(&step.input)? {
                Some(total) => {
                    let row = Projection::try_new(step.expr.clone(), total.row)?;
                    Some(Self {
                        row: Arc::new(LogicalPlan::Projection(row)),
                        condition: total.condition,
                    })
                }
                None => None,
            },
            _ => None,
        })
    }
}

/// Returns the sub-query with another plan, which refers to the same columns of the outer query or to fewer.
fn scalar(subquery: &Subquery, plan: Arc<LogicalPlan>) -> Expr {
    Expr::ScalarSubquery(Subquery {
        outer_ref_columns: plan.all_out_ref_exprs(),
        subquery: plan,
        spans: subquery.spans.clone(),
    })
}

fn compared_total(found: &InSubquery) -> Result<Option<Expr>> {
    let operator = match found.negated {
        true => Operator::NotEq,
        false => Operator::Eq,
    };
    compare(&found.expr, operator, &found.subquery, found.negated)
}

/// Returns the comparison of a value with a total; `None` if the sub-query is none. If there is no row, the result is
/// `otherwise`.
pub(super) fn compare(
    left: &Expr,
    operator: Operator,
    subquery: &Subquery,
    otherwise: bool,
) -> Result<Option<Expr>> {
    let Some(total) = Total::new(&subquery.subquery)? else {
        return Ok(None);
    };
    let compared = binary_expr(left.clone(), operator, scalar(subquery, total.row));
    Ok(Some(match total.condition {
        Some(condition) => when(scalar(subquery, condition), compared).otherwise(lit(otherwise))?,
        None => compared,
    }))
}

fn existing_total(found: &Exists) -> Result<Option<Expr>> {
    let condition = Total::new(&found.subquery.subquery)?.and_then(|total| total.condition);
    Ok(condition.map(|condition| {
        let is_kept = scalar(&found.subquery, condition).is_true();
        match found.negated {
            true => not(is_kept),
            false => is_kept,
        }
    }))
}
