//! Limits on a plan before it is optimised. The time of the optimiser doubles with each level of nested subqueries, and each
//! of its rules visits every step and copies the columns of many of them.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};

use crate::engine::functions;

/// The maximum depth of subqueries within expressions.
const MAX_DEPTH: usize = 8;
/// The maximum number of steps of a plan.
const MAX_STEPS: usize = 5_000;
/// The maximum number of columns of all steps of a plan together. A join has those of both sides, so that the sum grows with
/// the square of the tables joined.
const MAX_COLUMNS: usize = 100_000;

/// Returns an error for a plan that would take too long to optimise, or whose types take too much memory.
pub(in crate::engine) fn check(plan: &LogicalPlan) -> Result<()> {
    PlanSize::default().add(plan, 0)
}

#[derive(Default)]
struct PlanSize {
    steps: usize,
    columns: usize,
}

impl PlanSize {
    fn add(&mut self, plan: &LogicalPlan, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(DataFusionError::Plan(format!(
                "subqueries are nested more than {MAX_DEPTH} deep in expressions; join them instead"
            )));
        }
        plan.apply(|node| {
            self.steps += 1;
            self.columns = self.columns.saturating_add(node.schema().fields().len());
            if self.steps > MAX_STEPS {
                return Err(DataFusionError::Plan(format!(
                    "the plan of the query has more than {MAX_STEPS} steps"
                )));
            }
            if self.columns > MAX_COLUMNS {
                return Err(DataFusionError::Plan(format!(
                    "the steps of the plan have more than {MAX_COLUMNS} columns in total; join fewer tables, or select fewer columns of each"
                )));
            }
            // The query of a view is not part of the plan yet.
            if let LogicalPlan::TableScan(scan) = node
                && let Some(inside) = scan.source.get_logical_plan()
            {
                self.add(&inside, depth)?;
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
                            self.add(&subquery.subquery, depth + 1)?;
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
