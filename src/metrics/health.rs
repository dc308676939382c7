//! The readiness of this process: it has started, is not shutting down, and its organisation database responds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::lazy_gauge::LazyGauge;
use crate::clock::Stopwatch;

/// The maximum time since the last response of the organisation database for the process to be ready.
const MAX_DATABASE_SILENCE: Duration = Duration::from_secs(30);

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// A handle to the readiness of this process.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    since: Stopwatch,
    state: AtomicU8,
    /// The time of the database's last response, in milliseconds after `since`; 0 for never.
    last_response_ms: AtomicU64,
}

impl Health {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let health = Self {
            shared: Arc::new(Shared {
                since: Stopwatch::start(),
                state: AtomicU8::new(STARTING),
                last_response_ms: AtomicU64::new(0),
            }),
        };
        let (ready, silence) = (LazyGauge::default(), LazyGauge::default());
        let of = health.clone();
        ready.set_source(move || Some(f64::from(u8::from(of.check().is_ok()))));
        let of = health.clone();
        silence.set_source(move || of.database_silence().map(|silence| silence.as_secs_f64()));
        registry.register("ready", "1 if /readyz reports ready, 0 otherwise", ready);
        let help = "Time since the organisation database last answered";
        registry.register("database_silence_seconds", help, silence);
        health
    }

    /// Marks the process as started.
    pub fn mark_started(&self) {
        self.shared.state.store(READY, Ordering::Release);
    }

    /// Marks the process as shutting down.
    pub fn mark_stopping(&self) {
        self.shared.state.store(STOPPING, Ordering::Release);
    }

    /// Records a response of the organisation database.
    pub fn record_database_response(&self) {
        let now = u64::try_from(self.shared.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared
            .last_response_ms
            .store(now.max(1), Ordering::Release);
    }

    /// Returns the time since the database last responded; none if it never did.
    fn database_silence(&self) -> Option<Duration> {
        match self.shared.last_response_ms.load(Ordering::Acquire) {
            0 => None,
            at => Some(
                self.shared
                    .since
                    .elapsed()
                    .saturating_sub(Duration::from_millis(at)),
            ),
        }
    }

    /// Checks whether the process is ready.
    ///
    /// # Errors
    /// Returns the reason if it is not.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.shared.state.load(Ordering::Acquire) {
            STARTING => Err("starting"),
            STOPPING => Err("stopping"),
            _ if self
                .database_silence()
                .is_none_or(|silence| silence > MAX_DATABASE_SILENCE) =>
            {
                Err("the organisation database does not answer")
            }
            _ => Ok(()),
        }
    }
}
