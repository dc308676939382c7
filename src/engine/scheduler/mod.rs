//! The query scheduler. Short queries run on the thread that serves the request. Long queries run on threads of their
//! own, with limits on their number and time, and fair shares between organisations. Statements are planned on threads
//! of their own.

mod fair_queue;
mod long_query;
mod organisation_threads;
mod permit_slot;
mod planning;
mod result_stream;
mod timer;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::runtime::Handle;

use crate::memory::{self, QueryMemory};
use crate::metrics::{AbortReason, Lane, METRICS};
use crate::model::OrganisationId;
use crate::workers::Workers;
use fair_queue::FairQueue;
use organisation_threads::OrganisationThreads;
use planning::PlanningScheduler;
pub use result_stream::ResultStream;
pub use timer::QueryTimer;

/// The time for which a query that was estimated as short runs on the serving thread before it is moved to the threads
/// for long queries.
const SHORT_QUERY_TIMEOUT: Duration = Duration::from_millis(30);
/// The limits of long queries.
#[derive(Debug, Clone, Copy)]
pub struct SchedulerLimits {
    /// The maximum number of long queries that run at once.
    pub permits: usize,
    /// The number of threads for each organisation.
    pub threads: usize,
    /// The stack size of each thread, in bytes.
    pub stack_bytes: usize,
    /// The maximum time to plan and run a query.
    pub query_timeout: Duration,
    /// The maximum time to wait for a permit.
    pub queue_timeout: Duration,
    /// The maximum time for which a result may stay unread.
    pub unread_timeout: Duration,
}

/// The reason why a query ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryAborted {
    /// The query exceeded the time limit.
    #[error(
        "the query exceeded serve.query_timeout ({} s); ask for fewer rows, or for a coarser table",
        .0.as_secs()
    )]
    TimedOut(Duration),
    /// Planning exceeded the time limit.
    #[error(
        "planning the statement took longer than serve.query_timeout ({} s); call functions on smaller constants, or write a simpler statement",
        .0.as_secs()
    )]
    PlanningTimedOut(Duration),
    /// No permit was available in time.
    #[error(
        "the server is busy: no permit for the query within serve.queue_timeout ({} s); try again later",
        .0.as_secs()
    )]
    QueueTimedOut(Duration),
    /// The client stopped reading.
    #[error(
        "exceeded serve.unread_timeout ({} s): the client stopped reading the result; run the query again",
        .0.as_secs()
    )]
    ResultUnread(Duration),
    /// The query exceeded its memory limit.
    #[error(
        "the query needs more memory than allowed; ask for fewer rows or columns, for shorter texts, or for a coarser table"
    )]
    OutOfMemory,
    /// The query ended unexpectedly, such as by a panic.
    #[error("the query failed on the server's side; run it again")]
    Failed,
}

impl QueryAborted {
    /// Counts the event in the metrics.
    fn record_metric(self) -> Self {
        METRICS.engine.count_aborted(match self {
            Self::TimedOut(_) | Self::PlanningTimedOut(_) => AbortReason::TimeLimit,
            Self::QueueTimedOut(_) => AbortReason::PermitTimeout,
            Self::ResultUnread(_) => AbortReason::ClientStalled,
            Self::OutOfMemory | Self::Failed => AbortReason::ResourceFailure,
        });
        self
    }
}

/// Schedules the planning and execution of queries.
#[derive(Debug)]
pub struct QueryScheduler {
    /// The threads for work other than queries.
    workers: Workers,
    organisation_threads: OrganisationThreads,
    queue: FairQueue,
    planning: PlanningScheduler,
    limits: SchedulerLimits,
    /// The runtime of the serving threads. Nothing blocks them, so timers run here.
    serving_runtime: Handle,
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

    /// Runs a query that probably takes less than `SHORT_QUERY_TIMEOUT`.
    pub fn run_short<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        stream: BoxStream<'static, T>,
    ) -> ResultStream<T> {
        ResultStream::on_serving_thread(Arc::clone(self), organisation, timer, stream)
    }

    /// Runs a query that may take long; `start` is called on the threads that run it.
    pub fn run_long<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> ResultStream<T> {
        ResultStream::on_workers(Arc::clone(self), organisation, timer, start)
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

/// Returns why a query ended by a panic.
fn abort_reason_from_panic(query: &QueryMemory, panic: &(dyn Any + Send)) -> QueryAborted {
    match query.is_exhausted() || memory::is_out_of_memory(panic) {
        true => QueryAborted::OutOfMemory,
        false => QueryAborted::Failed,
    }
}

#[cfg(test)]
mod tests;
