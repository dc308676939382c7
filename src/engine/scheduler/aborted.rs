//! The reasons why queries end early.

use std::any::Any;
use std::time::Duration;

use crate::memory::{self, QueryMemory};
use crate::metrics::{AbortReason, METRICS};

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
    pub(super) fn record_metric(self) -> Self {
        METRICS.engine.count_aborted(match self {
            Self::TimedOut(_) | Self::PlanningTimedOut(_) => AbortReason::TimeLimit,
            Self::QueueTimedOut(_) => AbortReason::PermitTimeout,
            Self::ResultUnread(_) => AbortReason::ClientStalled,
            Self::OutOfMemory | Self::Failed => AbortReason::ResourceFailure,
        });
        self
    }
}

/// Returns why a query ended by a panic.
pub(super) fn abort_reason_from_panic(
    query: &QueryMemory,
    panic: &(dyn Any + Send),
) -> QueryAborted {
    match query.is_exhausted() || memory::is_out_of_memory(panic) {
        true => QueryAborted::OutOfMemory,
        false => QueryAborted::Failed,
    }
}
