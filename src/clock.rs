//! The only module that reads the time: wall-clock instants, time-ordered ids and stopwatches. The trait [`Clock`] can be
//! replaced by a simulated clock in tests that cover many days.
#![expect(
    clippy::disallowed_methods,
    reason = "the only module that may read the clock"
)]

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

/// Returns the current wall-clock time in UTC.
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Returns a new UUID of version 7. Ids sort by their creation time, to the millisecond.
pub fn new_id() -> Uuid {
    let now = now();
    let timestamp = uuid::Timestamp::from_unix(
        uuid::NoContext,
        now.timestamp().unsigned_abs(),
        now.timestamp_subsec_nanos(),
    );
    Uuid::new_v7(timestamp)
}

/// A monotonic timer. Changes of the wall clock do not affect it.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts a stopwatch.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Returns the seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// A source of the current time, which can also wait.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Returns the wall-clock time in UTC. It may jump.
    fn now(&self) -> DateTime<Utc>;

    /// Returns the time since the clock was created. It is monotonic.
    fn elapsed(&self) -> Duration;

    /// Returns a future that completes after `time`.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Stopwatch);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Stopwatch::start())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }
}
