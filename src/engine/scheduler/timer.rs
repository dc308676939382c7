//! The run time of a statement, against its limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::engine::limits::cancellation::CancelToken;

/// The time for which a statement was planned and run, without the time that it waited for a permit or for its client,
/// and the token that cancels the work. Cheap to clone; clones share one timer.
#[derive(Debug, Clone)]
pub struct QueryTimer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: CancelToken,
    limit: Duration,
    run_time: Mutex<RunTime>,
}

#[derive(Debug, Default)]
struct RunTime {
    accumulated: Duration,
    since: Option<Stopwatch>,
}

impl QueryTimer {
    /// Creates a paused timer at zero.
    pub fn new(limit: Duration) -> Self {
        Self(Arc::new(Inner {
            token: CancelToken::default(),
            limit,
            run_time: Mutex::default(),
        }))
    }

    /// Returns the token that cancels the work.
    pub fn token(&self) -> &CancelToken {
        &self.0.token
    }

    /// Returns the maximum time of the statement.
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// Starts the timer, if it is paused.
    pub fn resume(&self) {
        let mut worked = self.locked();
        if worked.since.is_none() {
            worked.since = Some(Stopwatch::start());
        }
    }

    /// Pauses the timer until it is resumed.
    pub fn pause(&self) {
        let mut worked = self.locked();
        if let Some(since) = worked.since.take() {
            worked.accumulated += since.elapsed();
        }
    }

    /// Returns the time left.
    pub fn remaining(&self) -> Duration {
        let worked = self.locked();
        let now = worked.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.0.limit.saturating_sub(worked.accumulated + now)
    }

    fn locked(&self) -> MutexGuard<'_, RunTime> {
        self.0
            .run_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
