//! Sorts of the rows of window functions.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

/// Sorts the rows of window functions whose operator fails because it cannot tell that they are sorted. DataFusion leaves out
/// their sort if they are sorted by `a` and partitioned by `CAST(a AS …)`, among other keys. The rule comes after all others.
#[derive(Debug)]
pub(super) struct WindowSorts;

impl PhysicalOptimizerRule for WindowSorts {
    fn name(&self) -> &str {
        "window_sorts"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|step| match missing_sort(&step) {
            Some(sort) => {
                let sorted = step.children().into_iter().map(|input| {
                    let sort = SortExec::new(sort.clone(), Arc::clone(input));
                    Arc::new(sort.with_preserve_partitioning(true)) as Arc<_>
                });
                let sorted = sorted.collect();
                replace_children_if_necessary(step, sorted).map(Transformed::yes)
            }
            None => Ok(Transformed::no(step)),
        })
        .data()
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns the order that the rows need; `None` if the operator knows that they have it, or is not one of window functions.
fn missing_sort(step: &Arc<dyn ExecutionPlan>) -> Option<LexOrdering> {
    let (functions, keys) = if let Some(window) = step.downcast_ref::<BoundedWindowAggExec>() {
        (window.window_expr(), window.partition_by_sort_keys())
    } else {
        let window = step.downcast_ref::<WindowAggExec>()?;
        (window.window_expr(), window.partition_by_sort_keys())
    };
    match keys {
        Ok(_) => None,
        Err(_) => LexOrdering::new(order(functions.first()?)),
    }
}

fn order(function: &Arc<dyn WindowExpr>) -> impl Iterator<Item = PhysicalSortExpr> {
    let keys = function.partition_by().iter().cloned();
    keys.map(PhysicalSortExpr::new_default)
        .chain(function.order_by().iter().cloned())
}
