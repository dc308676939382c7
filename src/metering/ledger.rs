//! Moves records from journals into the organisation database: in batches, with retries, and exactly once.
//!
//! A query leaves four records or more. They are added every second in batches, on a separate connection: fewer
//! transactions need less disk and fewer thread switches. A record takes a few microseconds, so that requests and other
//! writes to the database do not wait for long.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;

use super::journal::dead::Dead;
use super::journal::reader::Reader;
use super::journal::{Journal, JournalError, Next, PLACES};
use super::quotas::Quotas;
use crate::clock::Stopwatch;
use crate::metrics::METRICS;
use crate::model::UsageRecord;
use crate::store::{OrganisationStore, StoreError, for_owner_only};

/// The interval at which new records are added,
const EVERY: Duration = Duration::from_secs(1);
/// and its maximum, to which it grows while the database is unavailable.
const SELDOM: Duration = Duration::from_secs(5);
/// The interval at which journals of dead servers are searched.
const DEAD_EVERY: Duration = Duration::from_secs(30);
/// The number of bytes of the journal that are read at once.
const BYTES: u64 = 1 << 20;
/// The number of records in one transaction, a multiple of what one statement of the store adds. With SQLite, no other
/// writes are possible meanwhile.
const RECORDS: usize = 1_536;
/// The file of records that the database refuses.
const REJECTED: &str = "rejected.jsonl";

/// Moves records into the ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    journal: Journal,
    quotas: Arc<Quotas>,
    taking: Mutex<Taking>,
    /// The number of records of ended requests that were moved, including unreadable ones.
    taken: AtomicU64,
    /// The time since no record was waiting.
    caught_up: std::sync::Mutex<Stopwatch>,
    /// Whether the database was available at the last attempt.
    is_there: AtomicBool,
    store: OrganisationStore,
}

/// The progress in the journal.
#[derive(Debug)]
struct Taking {
    /// The position in the journal.
    reader: Reader,
    /// A buffer for the records that are being added.
    records: Vec<UsageRecord>,
}

/// Why records stay in the journal.
#[derive(Debug, thiserror::Error)]
enum LedgerError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    /// Creates the ledger of `journal` and of the journals of dead servers in `folder`.
    pub fn new(
        folder: &Path,
        journal: Journal,
        store: OrganisationStore,
        quotas: Arc<Quotas>,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            taking: Mutex::new(Taking {
                reader: Reader::new(journal.folder()),
                records: Vec::new(),
            }),
            journal,
            quotas,
            taken: AtomicU64::new(0),
            caught_up: std::sync::Mutex::new(Stopwatch::start()),
            is_there: AtomicBool::new(true),
            store: store.beside(),
        }
    }

    /// Returns the number of records of ended requests that are not in the ledger.
    pub fn waiting(&self) -> u64 {
        let ended = self.journal.ended_so_far();
        ended.saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Returns for how long records have been waiting, or slightly more.
    pub fn lag(&self) -> Duration {
        match self.waiting() {
            0 => Duration::ZERO,
            _ => self
                .caught_up
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed(),
        }
    }

    /// Moves records until the future is dropped.
    pub async fn keep_up(&self) {
        // Chains that are not begun here begin with the first record.
        if let Err(error) = self.store.begin_chains().await {
            tracing::warn!("cannot begin the chains over older records yet: {error}");
        }
        let mut looked: Option<Stopwatch> = None;
        let mut pause = EVERY;
        loop {
            let mut outcome = self.take().await;
            if outcome.is_ok() && looked.is_none_or(|looked| looked.elapsed() >= DEAD_EVERY) {
                outcome = self.take_over().await;
                looked = outcome.is_ok().then(Stopwatch::start);
            }
            self.tell(&outcome);
            pause = match outcome {
                Ok(()) => EVERY,
                Err(_) => (2 * pause).min(SELDOM),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Moves the remaining records. If `is_over`, so that no more can follow, and none is left, the journal is removed.
    pub async fn settle(&self, is_over: bool) {
        let outcome = self.take().await;
        self.tell(&outcome);
        if outcome.is_ok() && is_over {
            let taken = self.taking.lock().await.reader.at();
            if let Err(error) = self.journal.remove(taken) {
                tracing::warn!("{error}");
            }
        }
    }

    fn tell(&self, outcome: &Result<(), LedgerError>) {
        let is_there = outcome.is_ok();
        let was_there = self.is_there.swap(is_there, Ordering::Relaxed);
        match outcome {
            Err(error) if was_there => {
                tracing::error!("records of requests stay in the journal, retrying: {error}")
            }
            Ok(()) if !was_there => tracing::info!("records of requests reach the ledger again"),
            _ => {}
        }
    }

    /// Moves all records of the journal.
    async fn take(&self) -> Result<(), LedgerError> {
        let mut taking = self.taking.lock().await;
        let Taking { reader, records } = &mut *taking;
        loop {
            if reader.at() >= self.journal.end() {
                *self
                    .caught_up
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Stopwatch::start();
                return Ok(());
            }
            records.clear();
            let (damaged, upto) = match self.journal.next(reader.at(), BYTES, records) {
                Next::Kept(upto) => (0, upto),
                Next::InFiles(end) => {
                    let from = reader.clone();
                    let (part, upto) = self.apart(move || from.next(end, BYTES)).await?;
                    tell_damaged(&self.folder, part.damaged);
                    let damaged = part.damaged;
                    records.extend(part.ended());
                    (damaged, upto)
                }
            };
            self.add(records).await?;
            if upto == reader.at() {
                return Ok(());
            }
            self.quotas.added(records);
            self.taken
                .fetch_add(records.len() as u64 + damaged, Ordering::Relaxed);
            records.clear();
            records.shrink_to(PLACES);
            reader.move_to(upto);
            self.journal.forget_before(upto.number)?;
        }
    }

    /// Moves the records of dead servers.
    async fn take_over(&self) -> Result<(), LedgerError> {
        for dead in Dead::find(&self.folder)? {
            self.take_over_from(dead).await?;
        }
        Ok(())
    }

    async fn take_over_from(&self, dead: Dead) -> Result<(), LedgerError> {
        let mut reading = dead.reading()?;
        let mut ended = 0;
        loop {
            let (next, went_on) = self
                .apart(move || Ok((reading.next(BYTES)?, reading)))
                .await?;
            reading = went_on;
            let Some(left) = next else {
                break;
            };
            tell_damaged(dead.folder(), left.damaged);
            self.add(&left.ended).await?;
            ended += left.ended.len();
        }
        let aborted = reading.aborted();
        self.add(&aborted).await?;
        tracing::info!(
            ended,
            aborted = aborted.len(),
            "took over the journal of a server that died"
        );
        Ok(dead.remove()?)
    }

    /// Reads files on a blocking thread: reading and parsing a megabyte takes some milliseconds.
    async fn apart<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let reading = tokio::task::spawn_blocking(read).await;
        let read = reading.map_err(std::io::Error::other);
        read.map_err(JournalError::file(&self.folder))?
    }

    async fn add(&self, records: &[UsageRecord]) -> Result<(), LedgerError> {
        for batch in records.chunks(RECORDS) {
            match self.store.add_usage(batch).await {
                Ok(added) => METRICS.journal.added(added as u64),
                Err(error) if !error.is_refusal() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(
                        "the organisation database refused a batch of records; adding them one by one: {error}"
                    );
                    self.add_one_by_one(batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Adds records one by one, so that one that the database refuses does not block the others.
    async fn add_one_by_one(&self, records: &[UsageRecord]) -> Result<(), LedgerError> {
        for record in records {
            match self.store.add_usage(std::slice::from_ref(record)).await {
                Ok(added) => METRICS.journal.added(added as u64),
                Err(error) if !error.is_refusal() => return Err(error.into()),
                Err(error) => {
                    self.reject(record)?;
                    tracing::error!(
                        request = %record.request_id,
                        "the organisation database refused a record, written to {REJECTED} next to the journal: {error}"
                    );
                }
            }
        }
        Ok(())
    }

    fn reject(&self, record: &UsageRecord) -> Result<(), JournalError> {
        use std::io::Write;
        let path = self.folder.join(REJECTED);
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let write = || {
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            let mut file = for_owner_only(&mut options).open(&path)?;
            file.write_all(&line)?;
            file.sync_data()
        };
        write().map_err(JournalError::file(&path))
    }
}

fn tell_damaged(folder: &Path, lines: u64) {
    if lines > 0 {
        tracing::error!(
            folder = %folder.display(), lines,
            "lines of the journal are damaged; their records are lost"
        );
    }
}
