//! Limits on a plan before it is optimised. The time of the optimiser doubles with each level of nested subqueries, and
//! it processes a plan that is named twice two times. No timeout applies to it.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};

use super::functions;

/// The maximum depth of subqueries within expressions.
const DEEPEST: usize = 8;
/// The maximum number of steps of a plan.
const MOST_STEPS: usize = 5_000;

/// Returns an error for a plan that would take too long to optimise, or whose types take too much memory.
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
            // The query of a view is not part of the plan yet.
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
