//! Refuses subqueries that the optimiser could not turn into joins. The physical planner would fail on them, with a text
//! about its own data structures.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Returns an error that says what to use instead, if the optimised plan has a subquery that cannot be run.
pub(in crate::engine) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| match remedy(part) {
                Some(text) => Err(DataFusionError::NotImplemented(text.to_owned())),
                None => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(())
}

fn remedy(part: &Expr) -> Option<&'static str> {
    match part {
        Expr::OuterReferenceColumn(..) => Some(
            "cannot run this subquery: it names columns of the outer query in a place where that is not supported, such as a subquery with LIMIT or a join; use QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) <= … and a join on the columns",
        ),
        Expr::Exists(_) => Some(
            "cannot run EXISTS here: it is supported as a condition in WHERE only; in a SELECT list, use (SELECT count(*) FROM …) > 0",
        ),
        Expr::InSubquery(_) => Some(
            "cannot run IN with a subquery here: it is supported as a condition in WHERE only; in a SELECT list, use (SELECT count(*) FROM … WHERE …) > 0",
        ),
        Expr::SetComparison(_) => Some(
            "cannot run a comparison with ANY or ALL of a subquery here; compare with (SELECT min(…) FROM …) or (SELECT max(…) FROM …)",
        ),
        _ => None,
    }
}
