//! The scheduler as a whole: the threads and queues of queries.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::aborted::QueryAborted;
use super::fair_queue::FairQueue;
use super::limits::SchedulerLimits;
use super::organisation_threads::OrganisationThreads;
use super::planning::PlanningScheduler;
use super::timer::QueryTimer;
use crate::memory::QueryMemory;
use crate::metrics::{Lane, METRICS};
use crate::model::OrganisationId;
use crate::workers::Workers;

/// Schedules the planning and execution of queries.
#[derive(Debug)]
pub struct QueryScheduler {
    /// The threads for work other than queries.
    pub(super) workers: Workers,
    pub(super) organisation_threads: OrganisationThreads,
    pub(super) queue: FairQueue,
    pub(super) planning: PlanningScheduler,
    pub(super) limits: SchedulerLimits,
    /// The runtime of the serving threads. Nothing blocks them, so timers run here.
    pub(super) serving_runtime: Handle,
}

impl QueryScheduler {
    /// Starts the scheduler. Must be called on a serving thread.
    pub fn start(limits: SchedulerLimits) -> std::io::Result<Arc<Self>> {
        let places = limits.permits as f64;
        METRICS
            .engine
            .max_long_queries
            .set_source(move || Some(places));
        let answering = Handle::try_current().map_err(std::io::Error::other)?;
        Ok(Arc::new(Self {
            workers: Workers::start("ingest", limits.threads, limits.stack_bytes)?,
            organisation_threads: OrganisationThreads::new(limits.threads, limits.stack_bytes),
            queue: FairQueue::new(limits.permits, Some(Lane::Long)),
            planning: PlanningScheduler::new(&limits, answering.clone()),
            limits,
            serving_runtime: answering,
        }))
    }

    /// Returns a timer for a statement that is about to be planned or run.
    pub fn timer(&self) -> QueryTimer {
        QueryTimer::new(self.limits.query_timeout)
    }

    /// Plans a statement, or part of it, on the planning threads, with a permit of its organisation.
    ///
    /// # Errors
    /// If the timer runs out or no permit is available in time. The work is cancelled, and may go on for a while.
    pub async fn plan<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        timer: &QueryTimer,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, QueryAborted> {
        let planned = self.planning.run(organisation, timer, work).await;
        planned.map_err(QueryAborted::record_metric)
    }

    /// Runs work other than queries, without waiting for a permit; returns `None` if the threads have ended. Dropping
    /// the future ends the work.
    pub async fn run_without_permit<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        // The memory is charged to the query that waits for the result, if there is one.
        let memory = QueryMemory::current().unwrap_or_else(QueryMemory::start);
        self.workers.run(memory.charge_to(Box::pin(task))).await
    }
}
