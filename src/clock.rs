//! The only place that reads the time: wall-clock instants, ids that sort by them, and stopwatches.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that the ban protects"
)]

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
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
