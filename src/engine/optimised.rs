//! A query as it will be run. What was worked out to run it once is used again, where that is sure to be the same.

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

use super::counted_scan::CountedScan;
use super::sequential::{SequentialExec, may_stop_early};
use super::tenant_scan::TenantScan;
use super::weight;

/// A physical plan is used so often: it keeps figures of every run, which are only let go with it.
const MOST_USES: usize = 4;

/// A query with more columns is not taken for short: its schema alone takes a while to encode.
const MAX_SHORT_COLUMNS: usize = 256;

/// A query that was optimised.
pub struct OptimisedQuery {
    pub(super) plan: LogicalPlan,
    /// Whether it is probably done within a moment.
    pub is_short: bool,
    /// Whether it may end before all rows are read.
    pub(super) may_stop_early: bool,
    /// Whether it joins tables.
    pub(super) joins: bool,
    /// Bytes of the constants in the plan.
    constant_bytes: usize,
    /// Whether it reads `information_schema`, where settings and functions are.
    pub(super) shows_settings: bool,
    /// The plan of steps, and how often it was used.
    steps: Mutex<Option<(Arc<dyn ExecutionPlan>, usize)>>,
}

impl OptimisedQuery {
    pub(super) fn new(plan: LogicalPlan) -> Self {
        Self {
            is_short: weight::is_short(&plan) && plan.schema().fields().len() <= MAX_SHORT_COLUMNS,
            may_stop_early: may_stop_early(&plan),
            joins: weight::joins(&plan),
            constant_bytes: weight::constant_bytes(&plan),
            shows_settings: weight::shows_settings(&plan),
            plan,
            steps: Mutex::default(),
        }
    }

    /// Bytes of the constants in the plan, those that were worked out while it was made among them.
    pub fn constant_bytes(&self) -> usize {
        self.constant_bytes
    }

    /// The answer's columns.
    pub fn schema(&self) -> &Schema {
        self.plan.schema().as_arrow()
    }

    /// Steps that were kept, as if they had never been taken.
    pub(super) fn steps(&self) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut kept = self.locked();
        let Some((steps, uses)) = kept.as_mut() else {
            return Ok(None);
        };
        *uses += 1;
        let steps = Arc::clone(steps);
        if *uses >= MOST_USES {
            *kept = None;
        }
        drop(kept);
        // A scan remembers which files it has begun.
        reset_plan_states(steps).map(Some)
    }

    /// Keeps steps, if they can be taken again, and working them out takes long beside taking them.
    pub(super) fn keep_steps(&self, steps: &Arc<dyn ExecutionPlan>) {
        if self.is_short && weight::is_pinned(&self.plan) && are_stateless(steps) {
            *self.locked() = Some((Arc::clone(steps), 1));
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<(Arc<dyn ExecutionPlan>, usize)>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether no step remembers anything of a run that another could come upon once the steps are reset: of the many kinds
/// of steps, those that look up a few rows. One that sorts for a `LIMIT` remembers, and has told those below it.
fn are_stateless(step: &Arc<dyn ExecutionPlan>) -> bool {
    let is_stateless = step.is::<CountedScan>()
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
    is_stateless && step.children().into_iter().all(are_stateless)
}
