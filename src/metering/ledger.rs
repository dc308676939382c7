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

use super::journal::dead_journal::DeadJournal;
use super::journal::reader::JournalReader;
use super::journal::{BUFFER_CAPACITY, Journal, JournalError, NextRecords};
use super::quotas::Quotas;
use crate::clock::Stopwatch;
use crate::metrics::METRICS;
use crate::model::UsageRecord;
use crate::store::{OrganisationStore, StoreError, for_owner_only};

/// The interval at which new records are added,
const INTERVAL: Duration = Duration::from_secs(1);
/// and its maximum, to which it grows while the database is unavailable.
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// The interval at which journals of dead servers are searched.
const DEAD_JOURNALS_INTERVAL: Duration = Duration::from_secs(30);
/// The number of bytes of the journal that are read at once.
const READ_BYTES: u64 = 1 << 20;
/// The number of records in one transaction, a multiple of what one statement of the store adds. With SQLite, no other
/// writes are possible meanwhile.
const BATCH_RECORDS: usize = 1_536;
/// The file of records that the database refuses.
const REJECTED_FILE: &str = "rejected.jsonl";

/// Moves records into the ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    journal: Journal,
    quotas: Arc<Quotas>,
    progress: Mutex<Progress>,
    /// The number of records of ended requests that were moved, including unreadable ones.
    moved_records: AtomicU64,
    /// The time since no record was waiting.
    last_caught_up: std::sync::Mutex<Stopwatch>,
    /// Whether the database was available at the last attempt.
    is_database_available: AtomicBool,
    store: OrganisationStore,
}

/// The progress in the journal.
#[derive(Debug)]
struct Progress {
    /// The position in the journal.
    reader: JournalReader,
    /// A buffer for the records that are being added.
    records: Vec<UsageRecord>,
}

/// The reason for which records stay in the journal.
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
            progress: Mutex::new(Progress {
                reader: JournalReader::new(journal.folder()),
                records: Vec::new(),
            }),
            journal,
            quotas,
            moved_records: AtomicU64::new(0),
            last_caught_up: std::sync::Mutex::new(Stopwatch::start()),
            is_database_available: AtomicBool::new(true),
            store: store.with_own_connection(),
        }
    }

    /// Returns the number of records of ended requests that are not in the ledger.
    pub fn pending_records(&self) -> u64 {
        let ended = self.journal.ended_count();
        ended.saturating_sub(self.moved_records.load(Ordering::Relaxed))
    }

    /// Returns for how long records have been waiting, or slightly more.
    pub fn lag(&self) -> Duration {
        match self.pending_records() {
            0 => Duration::ZERO,
            _ => self
                .last_caught_up
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed(),
        }
    }

    /// Moves records until the future is dropped.
    pub async fn run(&self) {
        // Chains that are not begun here begin with the first record.
        if let Err(error) = self.store.begin_chains().await {
            tracing::warn!("cannot begin the chains over older records yet: {error}");
        }
        let mut looked: Option<Stopwatch> = None;
        let mut pause = INTERVAL;
        loop {
            let mut outcome = self.move_all().await;
            if outcome.is_ok()
                && looked.is_none_or(|looked| looked.elapsed() >= DEAD_JOURNALS_INTERVAL)
            {
                outcome = self.recover_dead_journals().await;
                looked = outcome.is_ok().then(Stopwatch::start);
            }
            self.log_outcome(&outcome);
            pause = match outcome {
                Ok(()) => INTERVAL,
                Err(_) => (2 * pause).min(MAX_INTERVAL),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Moves the remaining records. If `is_over`, so that no more can follow, and none is left, the journal is removed.
    pub async fn drain(&self, is_over: bool) {
        let outcome = self.move_all().await;
        self.log_outcome(&outcome);
        if outcome.is_ok() && is_over {
            let taken = self.progress.lock().await.reader.position();
            if let Err(error) = self.journal.remove(taken) {
                tracing::warn!("{error}");
            }
        }
    }

    fn log_outcome(&self, outcome: &Result<(), LedgerError>) {
        let is_there = outcome.is_ok();
        let was_there = self.is_database_available.swap(is_there, Ordering::Relaxed);
        match outcome {
            Err(error) if was_there => {
                tracing::error!("records of requests stay in the journal, retrying: {error}")
            }
            Ok(()) if !was_there => tracing::info!("records of requests reach the ledger again"),
            _ => {}
        }
    }

    /// Moves all records of the journal.
    async fn move_all(&self) -> Result<(), LedgerError> {
        let mut taking = self.progress.lock().await;
        let Progress { reader, records } = &mut *taking;
        loop {
            if reader.position() >= self.journal.end() {
                *self
                    .last_caught_up
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Stopwatch::start();
                return Ok(());
            }
            records.clear();
            let (damaged, upto) = match self.journal.next(reader.position(), READ_BYTES, records) {
                NextRecords::InMemory(upto) => (0, upto),
                NextRecords::InFiles(end) => {
                    let from = reader.clone();
                    let (part, upto) = self
                        .run_blocking(move || from.next(end, READ_BYTES))
                        .await?;
                    log_damaged_lines(&self.folder, part.damaged);
                    let damaged = part.damaged;
                    records.extend(part.into_ended());
                    (damaged, upto)
                }
            };
            self.add(records).await?;
            if upto == reader.position() {
                return Ok(());
            }
            self.quotas.added(records);
            self.moved_records
                .fetch_add(records.len() as u64 + damaged, Ordering::Relaxed);
            records.clear();
            records.shrink_to(BUFFER_CAPACITY);
            reader.set_position(upto);
            self.journal.delete_before(upto.number)?;
        }
    }

    /// Moves the records of dead servers.
    async fn recover_dead_journals(&self) -> Result<(), LedgerError> {
        for dead in DeadJournal::find(&self.folder)? {
            self.recover_journal(dead).await?;
        }
        Ok(())
    }

    async fn recover_journal(&self, dead: DeadJournal) -> Result<(), LedgerError> {
        let mut reading = dead.open_reader()?;
        let mut ended = 0;
        loop {
            let (next, went_on) = self
                .run_blocking(move || Ok((reading.next(READ_BYTES)?, reading)))
                .await?;
            reading = went_on;
            let Some(left) = next else {
                break;
            };
            log_damaged_lines(dead.folder(), left.damaged);
            self.add(&left.ended).await?;
            ended += left.ended.len();
        }
        let aborted = reading.into_aborted();
        self.add(&aborted).await?;
        tracing::info!(
            ended,
            aborted = aborted.len(),
            "took over the journal of a server that died"
        );
        Ok(dead.remove()?)
    }

    /// Reads files on a blocking thread: reading and parsing a megabyte takes some milliseconds.
    async fn run_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let reading = tokio::task::spawn_blocking(read).await;
        let read = reading.map_err(std::io::Error::other);
        read.map_err(JournalError::file(&self.folder))?
    }

    async fn add(&self, records: &[UsageRecord]) -> Result<(), LedgerError> {
        for batch in records.chunks(BATCH_RECORDS) {
            match self.store.add_usage(batch).await {
                Ok(added) => METRICS.journal.count_added(added as u64),
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
                Ok(added) => METRICS.journal.count_added(added as u64),
                Err(error) if !error.is_refusal() => return Err(error.into()),
                Err(error) => {
                    self.reject(record)?;
                    tracing::error!(
                        request = %record.request_id,
                        "the organisation database refused a record, written to {REJECTED_FILE} next to the journal: {error}"
                    );
                }
            }
        }
        Ok(())
    }

    fn reject(&self, record: &UsageRecord) -> Result<(), JournalError> {
        use std::io::Write;
        let path = self.folder.join(REJECTED_FILE);
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

fn log_damaged_lines(folder: &Path, lines: u64) {
    if lines > 0 {
        tracing::error!(
            folder = %folder.display(), lines,
            "lines of the journal are damaged; their records are lost"
        );
    }
}
