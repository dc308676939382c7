//! DataFusion's rule that pushes filters down, except below what they would change. It pushes a filter without columns below an
//! aggregate without groups, whose row it then changes instead of removing it, and a random one below any aggregate or window.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::logical_plan::Filter;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Pushes filters down.
#[derive(Debug, Default)]
pub(super) struct FilterPushDown(PushDownFilter);

impl OptimizerRule for FilterPushDown {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else {
            return self.0.rewrite(plan, config);
        };
        // DataFusion merges filters, so that all of them are considered at once.
        let mut predicates = vec![&filter.predicate];
        let mut input = &filter.input;
        while let LogicalPlan::Filter(below) = &**input {
            predicates.insert(0, &below.predicate);
            input = &below.input;
        }
        let Some(stays) = condition_to_stay(input) else {
            return self.0.rewrite(plan, config);
        };
        let parts = predicates
            .into_iter()
            .flat_map(|predicate| split_conjunction_owned(predicate.clone()));
        let (staying, pushed): (Vec<Expr>, Vec<Expr>) = parts.partition(stays);
        let (Some(staying), Some(pushed)) = (conjunction(staying), conjunction(pushed.clone()))
        else {
            return match pushed.is_empty() {
                true => Ok(Transformed::no(plan)),
                false => self.0.rewrite(plan, config),
            };
        };
        let below = LogicalPlan::Filter(Filter::try_new(pushed, Arc::clone(input))?);
        let below = self.0.rewrite(below, config)?;
        match below.transformed {
            true => below.map_data(|below| {
                let filter = Filter::try_new(staying, Arc::new(below))?;
                Ok(LogicalPlan::Filter(filter))
            }),
            false => Ok(Transformed::no(plan)),
        }
    }
}

/// Returns which conditions must stay above the node; `None` if DataFusion's rule is right for all.
fn condition_to_stay(node: &LogicalPlan) -> Option<fn(&Expr) -> bool> {
    match node {
        LogicalPlan::Aggregate(step) => {
            let has_total = step.group_expr.is_empty()
                || matches!(*step.group_expr, [Expr::GroupingSet(_), ..]);
            Some(match has_total {
                true => |part| part.column_refs().is_empty() || part.is_volatile(),
                false => Expr::is_volatile,
            })
        }
        LogicalPlan::Window(_) => Some(Expr::is_volatile),
        _ => None,
    }
}
