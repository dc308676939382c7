//! Metering: every request of a known organisation becomes one record in the ledger, once.
//!
//! A request is [opened](Meter::open) when its caller is known and [ends](OpenRequest::end) when its answer does; in
//! between, whoever sends the answer counts. The record is in the `journal` before the client knows that the answer
//! is whole, and the `ledger` takes it from there into the organisation database, now or when that is back.

mod journal;
mod ledger;
mod quotas;
mod request;
mod unknown;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use self::journal::Journal;
pub use self::journal::{JournalError, copies as journals};
use self::ledger::Ledger;
use self::quotas::Quotas;
pub use self::quotas::{OverLimit, Work};
pub use self::request::{Caller, End, Ended, EndedBy, NotBegun, OpenRequest};
use self::unknown::UnknownCallers;
use crate::clock;
use crate::config::JournalFull;
use crate::metrics::METRICS;
use crate::model::OrganisationId;
use crate::store::OrganisationStore;

/// Whether nothing is metered: in a build for benches only, to tell what metering costs.
pub const IS_OFF: bool = cfg!(feature = "unmetered");

/// How requests are metered.
#[derive(Debug, Clone)]
pub struct MeterSettings {
    /// Where journals are.
    pub folder: PathBuf,
    /// Bytes that the journal may have.
    pub limit: u64,
    /// What is done when it has them.
    pub when_full: JournalFull,
    /// Whether an answer waits until its record would outlive the machine's power.
    pub sync: bool,
    /// Whether the text of statements is kept.
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
    unknown: UnknownCallers,
    /// Requests that were answered and not recorded.
    dropped: AtomicU64,
    /// Requests that are being answered.
    open: AtomicU64,
    /// Whether the server is done: what is still being answered is cut off by it, not by its client.
    is_ending: AtomicBool,
}

impl Meter {
    /// Begins a journal for a run of a server; what it takes goes into `store`.
    pub fn begin(settings: MeterSettings, store: OrganisationStore) -> Result<Self, JournalError> {
        let server = clock::new_id();
        let journal = Journal::begin(&settings.folder, server, settings.limit)?;
        let quotas = Arc::new(Quotas::new(server, store.clone()));
        let counted = Arc::clone(&quotas);
        let ledger = Ledger::new(&settings.folder, journal.clone(), store.clone(), counted);
        let meter = Self {
            shared: Arc::new(Shared {
                server,
                unknown: UnknownCallers::new(server, store),
                journal,
                ledger,
                quotas,
                settings,
                dropped: AtomicU64::new(0),
                open: AtomicU64::new(0),
                is_ending: AtomicBool::new(false),
            }),
        };
        meter.tell();
        Ok(meter)
    }

    /// Lets the metrics look how the journal stands.
    fn tell(&self) {
        let look = |value: fn(&Shared) -> f64| {
            let shared = Arc::downgrade(&self.shared);
            move || shared.upgrade().map(|shared| value(&shared))
        };
        let journal = &METRICS.journal;
        journal
            .bytes
            .from(look(|shared| shared.journal.size() as f64));
        journal
            .limit_bytes
            .from(look(|shared| shared.journal.limit() as f64));
        journal
            .records
            .from(look(|shared| shared.ledger.waiting() as f64));
        journal
            .lag_seconds
            .from(look(|shared| shared.ledger.lag().as_secs_f64()));
        let open = look(|shared| shared.open.load(Ordering::Relaxed) as f64);
        METRICS.requests.open.from(open);
    }

    /// Begins the record of a request of `caller`.
    ///
    /// # Errors
    ///
    /// There is no room for it, and such requests are to be refused.
    pub fn open(&self, id: Uuid, caller: Caller) -> Result<OpenRequest, JournalError> {
        match self.shared.journal.has_room() {
            Err(full) if self.shared.settings.when_full == JournalFull::Refuse => Err(full),
            // When it ends, there may be.
            _ => Ok(OpenRequest::new(self.clone(), id, caller)),
        }
    }

    /// Lets work through, if its organisation's rate allows.
    pub fn admit(&self, organisation: OrganisationId, work: Work) -> Result<(), OverLimit> {
        let admitted = self.shared.quotas.admit(organisation, work);
        admitted.inspect_err(OverLimit::count)
    }

    /// Counts a call whose caller nobody knows.
    pub fn count_unknown(&self, address: Option<std::net::IpAddr>) {
        METRICS.requests.unknown();
        self.shared.unknown.count(address);
    }

    /// Takes records into the ledger, for as long as the future is polled.
    pub async fn keep_watch(&self) {
        tokio::join!(
            self.shared.journal.keep_syncing(),
            self.shared.ledger.keep_up(),
            self.shared.quotas.keep_looking(),
            self.shared.unknown.keep_writing(),
        );
    }

    /// Takes what is left, if the organisation database can be reached; else the next start does. The server answers no
    /// more: requests that are open from now on end as aborted.
    pub async fn settle(&self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.unknown.write().await;
        let is_over = self.shared.open.load(Ordering::Relaxed) == 0;
        self.shared.ledger.settle(is_over).await;
    }
}
