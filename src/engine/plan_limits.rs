//! What a plan may be like, before it is optimised. The optimiser takes twice as long for each subquery within another, and
//! goes through what is named twice as if it were two; no limit of time applies to it.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};

use super::functions;

/// Subqueries of expressions within each other at most.
const DEEPEST: usize = 8;
/// Steps of a plan at most.
const MOST_STEPS: usize = 5_000;

/// Refuses a plan that would take too long to optimise, or whose values would take too much room.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    Steps::default().take(plan, 0)
}

#[derive(Default)]
struct Steps(usize);

impl Steps {
    fn take(&mut self, plan: &LogicalPlan, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(DataFusionError::Plan(format!(
                "subqueries are nested more than {DEEPEST} deep in expressions; join them instead"
            )));
        }
        plan.apply(|node| {
            self.0 += 1;
            if self.0 > MOST_STEPS {
                return Err(DataFusionError::Plan(format!(
                    "the query takes more than {MOST_STEPS} steps"
                )));
            }
            // A view's query is not in the plan yet.
            if let LogicalPlan::TableScan(scan) = node
                && let Some(inside) = scan.source.get_logical_plan()
            {
                self.take(&inside, depth)?;
            }
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    match part {
                        Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => {
                            functions::check_type(field.data_type())?;
                        }
                        Expr::ScalarSubquery(subquery)
                        | Expr::Exists(Exists { subquery, .. })
                        | Expr::InSubquery(InSubquery { subquery, .. })
                        | Expr::SetComparison(SetComparison { subquery, .. }) => {
                            self.take(&subquery.subquery, depth + 1)?;
                        }
                        _ => {}
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(())
    }
}
