//! The only place that reads the time: wall-clock instants, ids that sort by them, and stopwatches. And a clock that can be
//! another, for what is tested over simulated days.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that the ban protects"
)]

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

/// The wall clock, in UTC.
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// An id for something new; later ones are greater.
pub fn new_id() -> Uuid {
    let now = now();
    let timestamp = uuid::Timestamp::from_unix(
        uuid::NoContext,
        now.timestamp().unsigned_abs(),
        now.timestamp_subsec_nanos(),
    );
    Uuid::new_v7(timestamp)
}

/// Measures elapsed time; not affected by changes of the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// What time it is, and waiting for a later one.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The wall clock, in UTC. It may jump.
    fn now(&self) -> DateTime<Utc>;

    /// Time since the clock was made; it only goes on.
    fn elapsed(&self) -> Duration;

    /// Waits for so long.
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
