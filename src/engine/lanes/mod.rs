//! Where queries are worked on. What is done within a moment is worked on where it was asked for; the rest on threads of
//! its own, so many at once, the organisations by turns, and not for ever. Statements are planned on threads of their own.

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

/// A query that was thought to be done within a moment is moved to the others after so much work.
const MOMENT: Duration = Duration::from_millis(30);
/// The limits of long queries.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// How many at once.
    pub places: usize,
    /// Threads that work on them.
    pub threads: usize,
    /// The stack of each, in bytes.
    pub stack: usize,
    /// How long one may be worked on.
    pub work: Duration,
    /// How long one may wait for its turn.
    pub wait: Duration,
    /// How long an answer may lie there and not be read.
    pub unread: Duration,
}

/// Why an answer ends before it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutShort {
    /// It took too long.
    #[error(
        "the query was worked on for {} s, and no query may take longer; ask for fewer rows, or for a coarser table",
        .0.as_secs()
    )]
    Worked(Duration),
    /// Planning took too long.
    #[error(
        "planning the statement took longer than serve.query_timeout ({} s); call functions on smaller constants, or write a simpler statement",
        .0.as_secs()
    )]
    Planned(Duration),
    /// There was no place.
    #[error(
        "the server is busy: the query waited {} s for its turn; try again later",
        .0.as_secs()
    )]
    Waited(Duration),
    /// The client stopped reading.
    #[error(
        "the answer was not read on for {} s, so its query was ended; run it again",
        .0.as_secs()
    )]
    Unread(Duration),
    /// It asked for more memory than one may have.
    #[error(
        "the query needs more memory than one may have; ask for fewer rows or columns, for shorter texts, or for a coarser table"
    )]
    Memory,
    /// The work on it broke off.
    #[error("the query broke off on the server's side; run it again")]
    Lost,
}

impl CutShort {
    /// Counts it in the metrics.
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

/// Works on queries.
#[derive(Debug)]
pub struct Lanes {
    /// For what is no query.
    workers: Workers,
    runtimes: Runtimes,
    turns: Turns,
    planning: PlanningLane,
    limits: LaneLimits,
    /// The threads that answer, which nothing blocks: they keep the time of all others.
    answering: Handle,
}

impl Lanes {
    /// Starts the threads; called by one that answers.
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

    /// Plans a statement, or does part of it, on the threads for planning and on its organisation's turn.
    ///
    /// # Errors
    /// When the timer runs out or no turn comes: the work may go on for a while, and is cancelled.
    pub async fn plan<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        timer: &QueryTimer,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CutShort> {
        let planned = self.planning.run(organisation, timer, work).await;
        planned.map_err(CutShort::counted)
    }

    /// Works on what is probably done within a moment.
    pub fn short<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        stream: BoxStream<'static, T>,
    ) -> Answer<T> {
        Answer::here(Arc::clone(self), organisation, timer, stream)
    }

    /// Works on what may take long; `start` is called on the threads that work on it.
    pub fn long<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> Answer<T> {
        Answer::elsewhere(Arc::clone(self), organisation, timer, start)
    }

    /// Works on what is no query, without waiting for a turn; none if the threads have ended. Dropped, it ends.
    pub async fn beside<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        // Whoever waits for it is charged for it.
        let memory = QueryMemory::current().unwrap_or_else(QueryMemory::start);
        self.workers.run(memory.charge_to(Box::pin(task))).await
    }
}

/// Why the work on a query ended by unwinding.
fn cut_by_panic(query: &QueryMemory, panic: &(dyn Any + Send)) -> CutShort {
    match query.is_exhausted() || memory::is_out_of_memory(panic) {
        true => CutShort::Memory,
        false => CutShort::Lost,
    }
}

#[cfg(test)]
mod tests;
