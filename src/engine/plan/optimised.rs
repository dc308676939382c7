//! An optimised query. Its physical plan is reused where the result is certain to be the same.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::cost_estimate;
use crate::engine::scan::metered_scan::MeteredScan;
use crate::engine::scan::sequential::{SequentialExec, may_stop_early};
use crate::engine::scan::tenant_scan::TenantScan;

/// The maximum number of runs of one physical plan. A plan accumulates the metrics of every run until it is dropped.
const MAX_RUNS: usize = 4;

/// The maximum number of columns of a short query; encoding the schema of more takes too long.
const MAX_SHORT_COLUMNS: usize = 256;

/// An optimised query.
pub struct OptimisedQuery {
    pub(in crate::engine) plan: LogicalPlan,
    /// Whether the query probably takes a few tens of milliseconds at most.
    pub is_short: bool,
    /// Whether it may end before all rows are read.
    pub(in crate::engine) may_stop_early: bool,
    /// Whether it joins tables.
    pub(in crate::engine) has_joins: bool,
    /// The bytes of the constants in the plan.
    constant_bytes: usize,
    /// Whether it reads `information_schema`, which shows settings and functions.
    pub(in crate::engine) may_read_settings: bool,
    /// The physical plan, and the number of its runs.
    physical_plan: Mutex<Option<(Arc<dyn ExecutionPlan>, usize)>>,
}

impl OptimisedQuery {
    pub(in crate::engine) fn new(plan: LogicalPlan) -> Self {
        Self {
            is_short: cost_estimate::is_short(&plan)
                && plan.schema().fields().len() <= MAX_SHORT_COLUMNS,
            may_stop_early: may_stop_early(&plan),
            has_joins: cost_estimate::has_joins(&plan),
            constant_bytes: cost_estimate::constant_bytes(&plan),
            may_read_settings: cost_estimate::may_read_settings(&plan),
            plan,
            physical_plan: Mutex::default(),
        }
    }

    /// Returns the bytes of the constants in the plan, including those evaluated during planning.
    pub fn constant_bytes(&self) -> usize {
        self.constant_bytes
    }

    /// Returns the schema of the result.
    pub fn schema(&self) -> &Schema {
        self.plan.schema().as_arrow()
    }

    /// Returns the stored physical plan, with its state reset; `None` if there is none.
    pub(in crate::engine) fn cached_physical_plan(&self) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut kept = self.locked();
        let Some((steps, uses)) = kept.as_mut() else {
            return Ok(None);
        };
        *uses += 1;
        let steps = Arc::clone(steps);
        if *uses >= MAX_RUNS {
            *kept = None;
        }
        drop(kept);
        // A scan keeps the list of files that it has begun.
        reset_plan_states(steps).map(Some)
    }

    /// Stores the physical plan if it can be run again, and if planning takes long compared with running it.
    pub(in crate::engine) fn cache_physical_plan(&self, steps: &Arc<dyn ExecutionPlan>) {
        if self.is_short && cost_estimate::has_immutable_inputs(&self.plan) && is_reusable(steps) {
            *self.locked() = Some((Arc::clone(steps), 1));
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<(Arc<dyn ExecutionPlan>, usize)>> {
        self.physical_plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether no operator keeps state from one run that another could see after a reset. Only the operators of lookups of
/// a few rows are accepted. A sort with a `LIMIT` keeps state and shares it with operators below it.
fn is_reusable(step: &Arc<dyn ExecutionPlan>) -> bool {
    let is_stateless = step.is::<MeteredScan>()
        || step.is::<TenantScan>()
        || step.is::<SequentialExec>()
        || step.is::<LocalLimitExec>()
        || step.is::<DataSourceExec>()
        || step.is::<FilterExec>()
        || step.is::<ProjectionExec>()
        || step.is::<CooperativeExec>()
        || step
            .downcast_ref::<SortExec>()
            .is_some_and(|sort| sort.fetch().is_none());
    is_stateless && step.children().into_iter().all(is_reusable)
}
