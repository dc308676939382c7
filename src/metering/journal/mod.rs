//! The journal: what happened to requests, on the disk before the client knows of it, until the ledger has it.
//!
//! Each run of a server has a folder of its own under `<state>/journal`, locked for as long as it lives, with files of
//! lines ([`Entry`]) that are only ever added to. A file goes when all that it says is in the ledger; what it says of
//! requests that are still being answered is said again in the newest file before. A folder whose lock is free belonged
//! to a server that is no more ([`dead`]).

pub mod copies;
pub(super) mod dead;
pub(super) mod entry;
mod pages;
pub(super) mod reader;
mod recent;
mod sync;

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use self::entry::Entry;
use self::pages::Pages;
use self::recent::Recent;
pub(super) use self::recent::{Next, PLACES};
use self::sync::Syncing;
use crate::model::UsageRecord;
use crate::store::for_owner_only;

/// A file is followed by another at so many bytes, or at this part of the journal's size: it goes as a whole.
const FILE: u64 = 4 << 20;
const PARTS: u64 = 8;
/// What the end of a request that has begun will take, or a little more; its statement's text not counted.
const END: u64 = 2 << 10;
/// Whose lock says that the folder's server lives.
const LOCK: &str = "lock";

/// Why the journal takes nothing.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It has reached its size.
    #[error(
        "the journal of requests has reached its {limit} bytes (`metering.journal_size`): the organisation database has not taken any for long"
    )]
    Full {
        /// Its size.
        limit: u64,
    },
    /// Its files cannot be used.
    #[error("the journal {path} cannot be used")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// An entry cannot be written as JSON.
    #[error("a record of a request cannot be written")]
    Entry(#[from] serde_json::Error),
}

impl JournalError {
    pub(super) fn file(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }
}

/// The journal of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Bytes that all files may have.
    limit: u64,
    state: Mutex<State>,
    syncing: Syncing,
    /// Closing it frees the lock.
    _lock: File,
}

#[derive(Debug)]
struct State {
    /// The newest file.
    file: Pages,
    /// Which one it is.
    number: u64,
    /// Bytes of the older files.
    older: u64,
    /// Records of requests that ended, so far.
    ended: u64,
    /// Requests that are being answered: what was said of them, and in which file.
    open: HashMap<Uuid, (Arc<[u8]>, u64)>,
    /// Requests that have ended and were not taken.
    recent: Recent,
}

impl State {
    /// How far the journal goes.
    fn end(&self) -> Place {
        Place {
            number: self.number,
            size: self.file.size(),
        }
    }
}

/// How far the journal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file.
    pub number: u64,
    /// Bytes of it.
    pub size: u64,
}

impl Place {
    /// The beginning.
    pub const START: Self = Self { number: 1, size: 0 };
}

impl Journal {
    /// Begins the journal of the server `id` in `folder`.
    pub fn begin(folder: &Path, id: Uuid, limit: u64) -> Result<Self, JournalError> {
        let folder = folder.join(id.to_string());
        let failed = JournalError::file(&folder);
        let lock = loop {
            for_owner_only_folder().create(&folder).map_err(&failed)?;
            let lock = for_owner_only(OpenOptions::new().create(true).append(true))
                .open(folder.join(LOCK));
            let lock = lock.map_err(&failed)?;
            lock.lock().map_err(&failed)?;
            // Before it was locked, another server may have taken it for a dead one's.
            if folder.join(LOCK).exists() {
                break lock;
            }
        };
        let file = create(&folder, Place::START.number, limit)?;
        Ok(Self {
            shared: Arc::new(Shared {
                limit,
                state: Mutex::new(State {
                    file,
                    number: Place::START.number,
                    older: 0,
                    ended: 0,
                    open: HashMap::new(),
                    recent: Recent::new(),
                }),
                syncing: Syncing::default(),
                folder,
                _lock: lock,
            }),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// How far it goes.
    pub fn end(&self) -> Place {
        self.locked().end()
    }

    /// What comes after `at`, up to which all was taken: about `most` bytes of it, or where in the files it is.
    pub fn next(&self, at: Place, most: u64, records: &mut Vec<UsageRecord>) -> Next {
        let mut state = self.locked();
        let end = state.end();
        state.recent.next(at, end, most, records)
    }

    /// Bytes that all files may have.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Records of requests that ended, so far.
    pub fn ended_so_far(&self) -> u64 {
        self.locked().ended
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        let state = self.locked();
        state.older + state.file.size()
    }

    /// Whether there is room for another request, and for the ends of those that are being answered.
    pub fn has_room(&self) -> Result<(), JournalError> {
        let state = self.locked();
        let more = (state.open.len() as u64 + 1) * END;
        let taken = state.older + state.file.size_with(more);
        let limit = self.shared.limit;
        (taken <= limit)
            .then_some(())
            .ok_or(JournalError::Full { limit })
    }

    /// Says that a request is being answered: `if_lost` is its record if the server dies.
    pub fn begun(&self, if_lost: &UsageRecord) -> Result<(), JournalError> {
        let id = if_lost.request_id;
        let line: Arc<[u8]> = Entry::Begun(if_lost).line()?.into();
        let mut state = self.locked();
        self.append(&mut state, &line)?;
        let number = state.number;
        state.open.insert(id, (line, number));
        Ok(())
    }

    /// Says that a request has ended. When this returns, the record outlives the process, and when it is
    /// [synced](Self::synced), the machine's power.
    pub fn ended(&self, record: UsageRecord) -> Result<(), JournalError> {
        let line = Entry::Ended(&record).line()?;
        let mut state = self.locked();
        self.append(&mut state, &line)?;
        state.ended += 1;
        state.open.remove(&record.request_id);
        let end = state.end();
        state.recent.keep(record, line.len() as u64, end);
        Ok(())
    }

    fn append(&self, state: &mut State, line: &[u8]) -> Result<(), JournalError> {
        let Shared { folder, limit, .. } = &*self.shared;
        if state.file.size() >= bytes_of_a_file(*limit) {
            state
                .file
                .finish()
                .map_err(failed_at(folder, state.number))?;
            let number = state.number + 1;
            let file = create(folder, number, *limit)?;
            self.shared.syncing.leave(state.file.file());
            state.older += state.file.size();
            (state.file, state.number) = (file, number);
        }
        let added = state.file.add(line);
        added.map_err(|source| failed_at(folder, state.number)(source))?;
        self.shared.syncing.written();
        Ok(())
    }

    /// Lets go of the files before `number`: all that they say has been taken over.
    pub fn forget_before(&self, number: u64) -> Result<(), JournalError> {
        let mut state = self.locked();
        let number = number.min(state.number);
        let again: Vec<_> = state
            .open
            .iter()
            .filter(|(_, (_, file))| *file < number)
            .map(|(id, (line, _))| (*id, Arc::clone(line)))
            .collect();
        for (id, line) in again {
            self.append(&mut state, &line)?;
            let now = state.number;
            state.open.insert(id, (line, now));
        }
        let mut freed = 0;
        for number in (1..number).rev() {
            let path = path_of(&self.shared.folder, number);
            let Ok(metadata) = path.metadata() else {
                // It and those before went earlier.
                break;
            };
            std::fs::remove_file(&path).map_err(JournalError::file(&path))?;
            freed += metadata.len();
        }
        state.older = state.older.saturating_sub(freed);
        Ok(())
    }

    /// Writes to the disk what was written since, within a tenth of a second, for as long as the future is polled.
    pub async fn keep_syncing(&self) {
        self.shared
            .syncing
            .keep_on(|| self.locked().file.file())
            .await;
    }

    /// Waits until all that was written so far is on the disk.
    pub async fn synced(&self) -> io::Result<()> {
        self.shared.syncing.wait().await
    }

    /// Removes the journal, if nothing in it is wanted any more: all up to `taken` was taken over.
    pub fn remove(&self, taken: Place) -> Result<(), JournalError> {
        let state = self.locked();
        let at_end = taken == state.end();
        if at_end && state.open.is_empty() {
            let folder = &self.shared.folder;
            std::fs::remove_dir_all(folder).map_err(JournalError::file(folder))?;
        }
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

fn create(folder: &Path, number: u64, limit: u64) -> Result<Pages, JournalError> {
    let pages = Pages::create(&path_of(folder, number), bytes_of_a_file(limit));
    pages.map_err(failed_at(folder, number))
}

fn bytes_of_a_file(limit: u64) -> u64 {
    FILE.min(limit / PARTS)
}

fn failed_at(folder: &Path, number: u64) -> impl Fn(io::Error) -> JournalError + use<> {
    JournalError::file(&path_of(folder, number))
}

/// Who asked what is nobody else's business.
fn for_owner_only_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use chrono::{DateTime, Utc};

    use super::dead::Dead;
    use super::*;
    use crate::model::{OrganisationId, UserId};

    pub(super) fn record(seed: u8) -> UsageRecord {
        let at = DateTime::<Utc>::from_timestamp_micros(1_700_000_000_000_000 + i64::from(seed))
            .unwrap();
        UsageRecord {
            request_id: Uuid::from_bytes([seed; 16]),
            organisation_id: OrganisationId(Uuid::from_bytes([1; 16])),
            user_id: UserId(Uuid::from_bytes([2; 16])),
            api_key_id: Some("key".into()),
            session_id: None,
            server_id: Uuid::from_bytes([3; 16]),
            endpoint: "DoGet/StatementQuery".into(),
            sql_fingerprint: None,
            sql_text: Some("SELECT 'ü\n'".to_owned()),
            started_at: at,
            ended_at: at,
            first_byte_microseconds: None,
            duration_microseconds: 0,
            rows: 0,
            bytes_sent: 0,
            bytes_scanned: 0,
            status: "OK".into(),
            cancelled: false,
            client_address: "127.0.0.1".into(),
            client_agent: "tests".into(),
            billable: true,
        }
    }

    pub(super) fn journal(limit: u64) -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::begin(folder.path(), Uuid::from_bytes([9; 16]), limit).unwrap();
        (folder, journal)
    }

    #[test]
    fn what_a_dead_server_had_begun_and_ended_is_found() {
        let (folder, journal) = journal(1 << 20);
        for seed in 0..3 {
            journal.begun(&record(seed)).unwrap();
        }
        journal.ended(record(1)).unwrap();
        journal.ended(record(7)).unwrap();
        assert!(Dead::find(folder.path()).unwrap().is_empty(), "it lives");
        // The last line was not written to its end.
        let path = path_of(journal.folder(), 1);
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(&Entry::Ended(&record(2)).line().unwrap()[..50])
            .unwrap();
        let [dead] = Dead::find(folder.path()).unwrap().try_into().unwrap();
        // However little is read at once.
        let mut reading = dead.reading().unwrap();
        let (mut ended, mut damaged) = (Vec::new(), 0);
        while let Some(left) = reading.next(100).unwrap() {
            ended.extend(left.ended);
            damaged += left.damaged;
        }
        assert_eq!((ended, damaged), (vec![record(1), record(7)], 0));
        let found = reading.aborted();
        let aborted: Vec<_> = found.iter().map(|record| record.request_id).collect();
        assert_eq!(aborted, [record(0).request_id, record(2).request_id]);
        for record in &found {
            assert_eq!(
                (record.status.as_str(), record.ended_at),
                ("ABORTED", super::tests::record(7).ended_at)
            );
        }
        dead.remove().unwrap();
        assert!(Dead::find(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn files_go_when_they_were_taken_over_and_open_requests_stay() {
        let (folder, journal) = journal(1 << 30);
        let open = record(200);
        journal.begun(&open).unwrap();
        let long = UsageRecord {
            sql_text: Some("x".repeat(1 << 20)),
            ..record(1)
        };
        for _ in 0..10 {
            journal.ended(long.clone()).unwrap();
        }
        let end = journal.end();
        assert!(end.number >= 3, "{end:?}");
        let before = journal.size();
        journal.forget_before(end.number).unwrap();
        assert!(
            journal.size() < before - (4 << 20),
            "{} of {before}",
            journal.size()
        );
        assert!(!path_of(journal.folder(), 1).exists());
        drop(journal);
        let mut dead = Dead::find(folder.path())
            .unwrap()
            .remove(0)
            .reading()
            .unwrap();
        while dead.next(1 << 20).unwrap().is_some() {}
        assert_eq!(dead.aborted()[0].request_id, open.request_id);
    }

    #[test]
    fn its_size_is_limited_with_room_for_what_has_begun() {
        let (_folder, journal) = journal(20 << 10);
        let mut begun = 0;
        while journal.has_room().is_ok() {
            journal.begun(&record(begun)).unwrap();
            begun += 1;
        }
        assert!((4..20).contains(&begun), "{begun}");
        for seed in 0..begun {
            journal.ended(record(seed)).unwrap();
        }
        assert!(journal.size() <= 20 << 10);
        // What had begun and ended needs no room any more.
        assert!(journal.has_room().is_ok());
        while journal.has_room().is_ok() {
            journal.ended(record(0)).unwrap();
        }
        assert!(journal.size() <= 20 << 10);
    }
}
