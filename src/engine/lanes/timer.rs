//! How long a statement has been worked on, against its limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::cancellation::CancelToken;
use crate::clock::Stopwatch;

/// The time that a statement has been planned and run, without the time that it waited for a turn or for its client; and
/// the token that ends the work. Cheap to clone; clones are one timer.
#[derive(Debug, Clone)]
pub struct QueryTimer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: CancelToken,
    limit: Duration,
    worked: Mutex<Worked>,
}

#[derive(Debug, Default)]
struct Worked {
    before: Duration,
    since: Option<Stopwatch>,
}

impl QueryTimer {
    /// A timer that stands at zero.
    pub fn new(limit: Duration) -> Self {
        Self(Arc::new(Inner {
            token: CancelToken::default(),
            limit,
            worked: Mutex::default(),
        }))
    }

    /// Ends the work when it is cancelled.
    pub fn token(&self) -> &CancelToken {
        &self.0.token
    }

    /// The longest that the statement may be worked on.
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// Runs on.
    pub fn resume(&self) {
        let mut worked = self.locked();
        if worked.since.is_none() {
            worked.since = Some(Stopwatch::start());
        }
    }

    /// Stands still until it is resumed.
    pub fn pause(&self) {
        let mut worked = self.locked();
        if let Some(since) = worked.since.take() {
            worked.before += since.elapsed();
        }
    }

    /// The time left.
    pub fn remaining(&self) -> Duration {
        let worked = self.locked();
        let now = worked.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.0.limit.saturating_sub(worked.before + now)
    }

    fn locked(&self) -> MutexGuard<'_, Worked> {
        self.0.worked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
