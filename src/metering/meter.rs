//! The entry point of metering.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use super::journal::{Journal, JournalError};
use super::ledger::Ledger;
use super::limit_exceeded::{LimitExceeded, RateLimitKind};
use super::meter_state::MeterState;
use super::quotas::Quotas;
use super::request::{Caller, OpenRequest};
use super::settings::MeterSettings;
use super::unknown_callers::UnknownCallers;
use crate::clock;
use crate::config::JournalFullAction;
use crate::metrics::METRICS;
use crate::model::OrganisationId;
use crate::store::OrganisationStore;

/// Meters requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter {
    shared: Arc<MeterState>,
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
            shared: Arc::new(MeterState {
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
        let gauge = |value: fn(&MeterState) -> f64| {
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
            _ => Ok(OpenRequest::new(Arc::clone(&self.shared), id, caller)),
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
