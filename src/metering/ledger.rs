//! The way of records from journals into the organisation database: in batches, as often as it takes, and once.
//!
//! A query leaves four records or more. They are added every second, all at once, with a connection of its own: the fewer
//! the transactions, the less of the disk and the less changing of threads. A record takes some microseconds, so whoever
//! answers, or writes to the database, does not wait for long.

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

/// How often it is looked for new records,
const EVERY: Duration = Duration::from_secs(1);
/// and how long at most, while the database is away.
const SELDOM: Duration = Duration::from_secs(5);
/// How often it is looked for journals of servers that died.
const DEAD_EVERY: Duration = Duration::from_secs(30);
/// Bytes of the journal that are taken at once.
const BYTES: u64 = 1 << 20;
/// Records that are added in one transaction (whole statements of the store). With SQLite, nobody else writes meanwhile.
const RECORDS: usize = 1_536;
/// Where records go that the database will never take.
const REJECTED: &str = "rejected.jsonl";

/// Takes records into the ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    journal: Journal,
    quotas: Arc<Quotas>,
    taking: Mutex<Taking>,
    /// Records of requests that ended, of those that were taken; those that could not be read included.
    taken: AtomicU64,
    /// When all had been taken the last time.
    caught_up: std::sync::Mutex<Stopwatch>,
    /// Whether the database was reached the last time.
    is_there: AtomicBool,
    store: OrganisationStore,
}

/// How records are taken.
#[derive(Debug)]
struct Taking {
    /// How far the journal was.
    reader: Reader,
    /// Room for those that are just being added.
    records: Vec<UsageRecord>,
}

/// Why records stay where they are.
#[derive(Debug, thiserror::Error)]
enum LedgerError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    /// Of `journal`, and the journals of dead servers in `folder`.
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

    /// Records of requests that ended and are not in the ledger.
    pub fn waiting(&self) -> u64 {
        let ended = self.journal.ended_so_far();
        ended.saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// For how long there have been such, or a little longer.
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

    /// Takes records for as long as the future is polled.
    pub async fn keep_up(&self) {
        // What is not begun here is begun by the first record.
        if let Err(error) = self.store.begin_chains().await {
            tracing::warn!("the chains over older records are not begun yet: {error}");
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

    /// Takes what is left, and removes the journal if nothing is and nothing more can come: if it `is_over`.
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
                tracing::error!("records of requests stay in the journal for now: {error}")
            }
            Ok(()) if !was_there => tracing::info!("records of requests go into the ledger again"),
            _ => {}
        }
    }

    /// Takes all that is in the journal.
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

    /// Takes over from servers that died.
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
            "took over the journal of a server that is no more"
        );
        Ok(dead.remove()?)
    }

    /// Reads files where nobody waits for it: a megabyte is read and understood in some milliseconds.
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
                    tracing::warn!("a batch of records was refused: {error}");
                    self.add_one_by_one(batch).await?;
                }
            }
        }
        Ok(())
    }

    /// One that the database refuses must not hold up the others.
    async fn add_one_by_one(&self, records: &[UsageRecord]) -> Result<(), LedgerError> {
        for record in records {
            match self.store.add_usage(std::slice::from_ref(record)).await {
                Ok(added) => METRICS.journal.added(added as u64),
                Err(error) if !error.is_refusal() => return Err(error.into()),
                Err(error) => {
                    self.reject(record)?;
                    tracing::error!(
                        request = %record.request_id,
                        "the organisation database refuses a record, which is now in {REJECTED} beside the journal: {error}"
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
            "lines of the journal are damaged; what they said is lost"
        );
    }
}
