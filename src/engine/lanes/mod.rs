//! The query scheduler. Short queries run on the thread that serves the request. Long queries run on threads of their
//! own, with limits on their number and time, and fair shares between organisations. Statements are planned on threads
//! of their own.

mod answer;
mod long;
mod planning;
mod runtimes;
mod timer;
mod turn_slot;
mod turns;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::runtime::Handle;

pub use self::answer::Answer;
use self::planning::PlanningLane;
use self::runtimes::Runtimes;
pub use self::timer::QueryTimer;
use self::turns::Turns;
use crate::memory::{self, QueryMemory};
use crate::metrics::{Cut, Lane, METRICS};
use crate::model::OrganisationId;
use crate::workers::Workers;

/// The time for which a query that was estimated as short runs on the serving thread before it is moved to the threads
/// for long queries.
const MOMENT: Duration = Duration::from_millis(30);
/// The limits of long queries.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// The maximum number of long queries that run at once.
    pub places: usize,
    /// The number of threads for each organisation.
    pub threads: usize,
    /// The stack size of each thread, in bytes.
    pub stack: usize,
    /// The maximum time to plan and run a query.
    pub work: Duration,
    /// The maximum time to wait for a permit.
    pub wait: Duration,
    /// The maximum time for which a result may stay unread.
    pub unread: Duration,
}

/// The reason why a query ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutShort {
    /// It exceeded the time limit.
    #[error(
        "the query exceeded serve.query_timeout ({} s); ask for fewer rows, or for a coarser table",
        .0.as_secs()
    )]
    Worked(Duration),
    /// Planning exceeded the time limit.
    #[error(
        "planning the statement took longer than serve.query_timeout ({} s); call functions on smaller constants, or write a simpler statement",
        .0.as_secs()
    )]
    Planned(Duration),
    /// No permit was available in time.
    #[error(
        "the server is busy: no permit for the query within serve.queue_timeout ({} s); try again later",
        .0.as_secs()
    )]
    Waited(Duration),
    /// The client stopped reading.
    #[error(
        "exceeded serve.unread_timeout ({} s): the client stopped reading the result; run the query again",
        .0.as_secs()
    )]
    Unread(Duration),
    /// It exceeded the memory limit of a query.
    #[error(
        "the query needs more memory than allowed; ask for fewer rows or columns, for shorter texts, or for a coarser table"
    )]
    Memory,
    /// It ended unexpectedly, such as by a panic.
    #[error("the query failed on the server's side; run it again")]
    Lost,
}

impl CutShort {
    /// Counts the event in the metrics.
    fn counted(self) -> Self {
        METRICS.engine.cut(match self {
            Self::Worked(_) | Self::Planned(_) => Cut::Worked,
            Self::Waited(_) => Cut::Waited,
            Self::Unread(_) => Cut::Unread,
            Self::Memory | Self::Lost => Cut::Lost,
        });
        self
    }
}

/// Schedules the planning and execution of queries.
#[derive(Debug)]
pub struct Lanes {
    /// The threads for work other than queries.
    workers: Workers,
    runtimes: Runtimes,
    turns: Turns,
    planning: PlanningLane,
    limits: LaneLimits,
    /// The runtime of the serving threads. Nothing blocks them, so timers run here.
    answering: Handle,
}

impl Lanes {
    /// Starts the scheduler. Must be called on a serving thread.
    pub fn start(limits: LaneLimits) -> std::io::Result<Arc<Self>> {
        let places = limits.places as f64;
        METRICS.engine.places.from(move || Some(places));
        let answering = Handle::try_current().map_err(std::io::Error::other)?;
        Ok(Arc::new(Self {
            workers: Workers::start("ingest", limits.threads, limits.stack)?,
            runtimes: Runtimes::new(limits.threads, limits.stack),
            turns: Turns::new(limits.places, Some(Lane::Long)),
            planning: PlanningLane::new(&limits, answering.clone()),
            limits,
            answering,
        }))
    }

    /// Returns a timer for a statement that is about to be planned or run.
    pub fn timer(&self) -> QueryTimer {
        QueryTimer::new(self.limits.work)
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
    ) -> Result<T, CutShort> {
        let planned = self.planning.run(organisation, timer, work).await;
        planned.map_err(CutShort::counted)
    }

    /// Runs a query that probably takes less than `SHORT_QUERY_TIMEOUT`.
    pub fn short<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        stream: BoxStream<'static, T>,
    ) -> Answer<T> {
        Answer::here(Arc::clone(self), organisation, timer, stream)
    }

    /// Runs a query that may take long; `start` is called on the threads that run it.
    pub fn long<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> Answer<T> {
        Answer::elsewhere(Arc::clone(self), organisation, timer, start)
    }

    /// Runs work other than queries, without waiting for a permit; returns `None` if the threads have ended. Dropping
    /// the future ends the work.
    pub async fn beside<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        // The memory is charged to the query that waits for the result, if there is one.
        let memory = QueryMemory::current().unwrap_or_else(QueryMemory::start);
        self.workers.run(memory.charge_to(Box::pin(task))).await
    }
}

/// Returns why a query ended by a panic.
fn cut_by_panic(query: &QueryMemory, panic: &(dyn Any + Send)) -> CutShort {
    match query.is_exhausted() || memory::is_out_of_memory(panic) {
        true => CutShort::Memory,
        false => CutShort::Lost,
    }
}

#[cfg(test)]
mod tests;
