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
            "cannot run this sub-query: it names columns of the outer query in a place where that is not supported, such as a sub-query with LIMIT or a join; use QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) <= … and a join on the columns",
        ),
        Expr::Exists(_) => Some(
            "cannot run this sub-query in EXISTS: it uses columns of the outer query in its GROUP BY, in HAVING or in another place where that is not supported, or is in the ON of an outer join with columns of both tables; compare the columns by = in its WHERE, or use a join",
        ),
        Expr::InSubquery(_) => Some(
            "cannot run this sub-query in IN: it has a LIMIT and uses columns of the outer query, or uses them in another place where that is not supported, or is in the ON of an outer join with columns of both tables; compare the columns by = in its WHERE, or use a join",
        ),
        Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => Some(
            "cannot run this sub-query: it uses columns of the outer query in a place where that is not supported, such as with LIMIT, or with another comparison than = below an aggregate; use a join, or QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) <= … and a join",
        ),
        Expr::SetComparison(_) => Some(
            "cannot run a comparison with ANY or ALL of a sub-query here; compare with (SELECT min(…) FROM …) or (SELECT max(…) FROM …)",
        ),
        _ => None,
    }
}
