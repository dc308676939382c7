//! Metering: every request of a known organisation becomes exactly one record in the ledger.
//!
//! A request is [opened](Meter::open) when its caller is known, and [ends](OpenRequest::end) when its response does. In
//! between, the code that sends the response counts rows and bytes. The record is in the `journal` before the client
//! knows that the response is complete. The `ledger` moves it from there to the organisation database, at once or when
//! that is available again.

mod journal;
mod ledger;
mod quotas;
mod request;
mod unknown_callers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use self::journal::Journal;
pub use self::journal::{JournalError, copies as journals};
use self::ledger::Ledger;
use self::quotas::Quotas;
pub use self::quotas::{LimitExceeded, RateLimitKind};
pub use self::request::{Caller, EndOutcome, EndedBy, OpenRequest, ResponseEnd, StatementRefused};
use self::unknown_callers::UnknownCallers;
use crate::clock;
use crate::config::JournalFullAction;
use crate::metrics::METRICS;
use crate::model::OrganisationId;
use crate::store::OrganisationStore;

/// Whether metering is off: only in a build for benchmarks that measure the cost of metering.
pub const IS_DISABLED: bool = cfg!(feature = "unmetered");

/// Settings of metering.
#[derive(Debug, Clone)]
pub struct MeterSettings {
    /// The folder of the journals.
    pub folder: PathBuf,
    /// The maximum size of the journal, in bytes.
    pub limit: u64,
    /// The behaviour when the journal is full.
    pub when_full: JournalFullAction,
    /// Whether a response waits until its record is synchronised to the disk.
    pub sync: bool,
    /// Whether the text of statements is stored.
    pub sql: bool,
}

/// Meters requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Uuid,
    settings: MeterSettings,
    journal: Journal,
    ledger: Ledger,
    quotas: Arc<Quotas>,
    unknown_callers: UnknownCallers,
    /// The number of requests that were answered, but not recorded.
    dropped: AtomicU64,
    /// The number of requests in progress.
    open: AtomicU64,
    /// Whether the server is shutting down. If so, it cuts off the remaining responses, not their clients.
    is_shutting_down: AtomicBool,
}

impl Meter {
    /// Creates a journal for this run of a server; its records go into `store`.
    pub fn start(settings: MeterSettings, store: OrganisationStore) -> Result<Self, JournalError> {
        let server = clock::new_id();
        let journal = Journal::create(&settings.folder, server, settings.limit)?;
        let quotas = Arc::new(Quotas::new(server, store.clone()));
        let counted = Arc::clone(&quotas);
        let ledger = Ledger::new(&settings.folder, journal.clone(), store.clone(), counted);
        let meter = Self {
            shared: Arc::new(Shared {
                server,
                unknown_callers: UnknownCallers::new(server, store),
                journal,
                ledger,
                quotas,
                settings,
                dropped: AtomicU64::new(0),
                open: AtomicU64::new(0),
                is_shutting_down: AtomicBool::new(false),
            }),
        };
        meter.register_gauges();
        Ok(meter)
    }

    /// Registers the gauges of the journal.
    fn register_gauges(&self) {
        let gauge = |value: fn(&Shared) -> f64| {
            let shared = Arc::downgrade(&self.shared);
            move || shared.upgrade().map(|shared| value(&shared))
        };
        let journal = &METRICS.journal;
        journal
            .bytes
            .set_source(gauge(|shared| shared.journal.size() as f64));
        journal
            .limit_bytes
            .set_source(gauge(|shared| shared.journal.limit() as f64));
        journal
            .records
            .set_source(gauge(|shared| shared.ledger.pending_records() as f64));
        journal
            .lag_seconds
            .set_source(gauge(|shared| shared.ledger.lag().as_secs_f64()));
        let open = gauge(|shared| shared.open.load(Ordering::Relaxed) as f64);
        METRICS.requests.open.set_source(open);
    }

    /// Opens the record of a request of `caller`.
    ///
    /// # Errors
    ///
    /// The journal has no room for it, and such requests are refused.
    pub fn open(&self, id: Uuid, caller: Caller) -> Result<OpenRequest, JournalError> {
        match self.shared.journal.check_room() {
            Err(full) if self.shared.settings.when_full == JournalFullAction::Refuse => Err(full),
            // There may be room when the request ends.
            _ => Ok(OpenRequest::new(self.clone(), id, caller)),
        }
    }

    /// Admits work if the rate limit of its organisation allows.
    pub fn check_rate_limit(
        &self,
        organisation: OrganisationId,
        work: RateLimitKind,
    ) -> Result<(), LimitExceeded> {
        let admitted = self.shared.quotas.check_rate_limit(organisation, work);
        admitted.inspect_err(LimitExceeded::count)
    }

    /// Counts a call without a known caller.
    pub fn count_unknown(&self, address: Option<std::net::IpAddr>) {
        METRICS.requests.count_unauthenticated();
        self.shared.unknown_callers.count(address);
    }

    /// Moves records into the ledger and keeps the limits up to date, until the future is dropped.
    pub async fn run_background_tasks(&self) {
        tokio::join!(
            self.shared.journal.sync_periodically(),
            self.shared.ledger.run(),
            self.shared.quotas.update_periodically(),
            self.shared.unknown_callers.write_periodically(),
        );
    }

    /// Moves the remaining records if the organisation database is available; otherwise the next start does. The server
    /// is shutting down: requests that are still open end as aborted.
    pub async fn drain(&self) {
        self.shared.is_shutting_down.store(true, Ordering::Release);
        self.shared.unknown_callers.write().await;
        let is_over = self.shared.open.load(Ordering::Relaxed) == 0;
        self.shared.ledger.drain(is_over).await;
    }
}
