//! The journal of a running server.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::dead_journal::into_aborted;
use super::entry::Entry;
use super::error::JournalError;
use super::file_names::{LOCK_FILE, file_path};
use super::journal_file::JournalFile;
use super::position::JournalPosition;
use super::recent::{NextRecords, RecentRecords};
use super::sync::JournalSync;
use crate::model::UsageRecord;
use crate::store::for_owner_only;

/// The size in bytes at which a new file begins; for a small journal, the fraction `1 / PARTS` of its limit. Files are
/// deleted as a whole.
const MAX_FILE_BYTES: u64 = 4 << 20;
const MIN_FILES: u64 = 8;
/// The room reserved for the end of a request, in bytes; for one in progress, in addition to the size of its start, which
/// contains the same statement.
const RESERVED_END_BYTES: u64 = 2 << 10;
/// The journal of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::metering) struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// The maximum size of all files, in bytes.
    limit: u64,
    state: Mutex<State>,
    syncing: JournalSync,
    /// Closing the file releases the lock.
    _lock: File,
}

#[derive(Debug)]
struct State {
    /// The newest file.
    file: JournalFile,
    /// Its number.
    number: u64,
    /// The size of the older files, in bytes.
    older_bytes: u64,
    /// The number of records of ended requests so far.
    ended: u64,
    /// Requests in progress.
    open_requests: HashMap<Uuid, JournaledRequest>,
    /// The room reserved for their ends, in bytes.
    reserved_bytes: u64,
    /// Requests of `open_requests` that ended, but whose records could not be written.
    abandoned: Vec<Uuid>,
    /// Requests that have ended and are not in the ledger.
    recent: RecentRecords,
}

/// A request in progress whose start is in the journal.
#[derive(Debug)]
struct JournaledRequest {
    /// Its last entry.
    line: Arc<[u8]>,
    /// The number of the file with that entry.
    number: u64,
    /// The room reserved for its end, in bytes.
    reserved_bytes: u64,
}

impl State {
    /// Removes a request from those in progress.
    fn close(&mut self, id: Uuid) {
        if let Some(request) = self.open_requests.remove(&id) {
            self.reserved_bytes -= request.reserved_bytes;
        }
    }

    /// See [`Journal::abandon`].
    fn abandon(&mut self, id: Uuid) {
        if self.open_requests.contains_key(&id) {
            self.abandoned.push(id);
        }
    }

    /// Returns the position of the end.
    fn end(&self) -> JournalPosition {
        JournalPosition {
            number: self.number,
            offset: self.file.size(),
        }
    }
}

impl Journal {
    /// Creates the journal of the server `id` in `folder`.
    pub fn create(folder: &Path, id: Uuid, limit: u64) -> Result<Self, JournalError> {
        let folder = folder.join(id.to_string());
        let failed = JournalError::file(&folder);
        let lock = loop {
            for_owner_only_folder().create(&folder).map_err(&failed)?;
            let lock = for_owner_only(OpenOptions::new().create(true).append(true))
                .open(folder.join(LOCK_FILE));
            let lock = lock.map_err(&failed)?;
            lock.lock().map_err(&failed)?;
            // Before the file was locked, another server may have taken the folder for that of a dead server.
            if folder.join(LOCK_FILE).exists() {
                break lock;
            }
        };
        let file = create(&folder, JournalPosition::START.number, limit)?;
        Ok(Self {
            shared: Arc::new(Shared {
                limit,
                state: Mutex::new(State {
                    file,
                    number: JournalPosition::START.number,
                    older_bytes: 0,
                    ended: 0,
                    open_requests: HashMap::new(),
                    reserved_bytes: 0,
                    abandoned: Vec::new(),
                    recent: RecentRecords::new(),
                }),
                syncing: JournalSync::default(),
                folder,
                _lock: lock,
            }),
        })
    }

    /// Returns the folder of the journal.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Returns the position of the end.
    pub fn end(&self) -> JournalPosition {
        self.lock().end()
    }

    /// Returns records after `at`, up to which the ledger has everything: about `max_bytes` bytes, or the position up to
    /// which they must be read from the files.
    pub fn next(
        &self,
        at: JournalPosition,
        max_bytes: u64,
        records: &mut Vec<UsageRecord>,
    ) -> NextRecords {
        let mut state = self.lock();
        let end = state.end();
        state.recent.next(at, end, max_bytes, records)
    }

    /// Returns the maximum size of all files, in bytes.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Returns the number of records of ended requests so far.
    pub fn ended_count(&self) -> u64 {
        self.lock().ended
    }

    /// Returns the size of all files, in bytes.
    pub fn size(&self) -> u64 {
        let state = self.lock();
        state.older_bytes + state.file.size()
    }

    /// Checks whether there is room for another request and for the ends of those in progress.
    pub fn check_room(&self) -> Result<(), JournalError> {
        self.check_room_for(&self.lock(), RESERVED_END_BYTES)
    }

    /// Checks whether there is room for `bytes` and for the ends of the requests in progress.
    fn check_room_for(&self, state: &State, bytes: u64) -> Result<(), JournalError> {
        let taken = state.older_bytes + state.file.size_with(state.reserved_bytes + bytes);
        let limit = self.shared.limit;
        (taken <= limit)
            .then_some(())
            .ok_or(JournalError::Full { limit })
    }

    /// Records that a request is in progress. `if_lost` is its record if the server dies.
    ///
    /// # Errors
    ///
    /// There is no room for it and its end, or the file cannot be written.
    pub fn record_start(&self, if_lost: &UsageRecord) -> Result<(), JournalError> {
        let id = if_lost.request_id;
        let line: Arc<[u8]> = Entry::Begun(if_lost).to_line()?.into();
        let line_bytes = line.len() as u64;
        let mut state = self.lock();
        // Only the first of these entries is sure to contain the statement.
        let known = state.open_requests.get(&id);
        let known_bytes = known.map_or(0, |request| request.reserved_bytes);
        let reserved_bytes = known_bytes.max(line_bytes + RESERVED_END_BYTES);
        self.check_room_for(&state, line_bytes + (reserved_bytes - known_bytes))?;
        self.append(&mut state, &line)?;
        state.close(id);
        state.reserved_bytes += reserved_bytes;
        let request = JournaledRequest {
            line,
            number: state.number,
            reserved_bytes,
        };
        state.open_requests.insert(id, request);
        Ok(())
    }

    /// Records that a request has ended. Once this returns, the record survives the death of the process. Once it is
    /// [synced](Self::wait_until_synced), the record survives a power cut.
    ///
    /// If it fails, the request is [abandoned](Self::abandon).
    pub fn record_end(&self, record: UsageRecord) -> Result<(), JournalError> {
        let id = record.request_id;
        let mut state = self.lock();
        if let Err(error) = self.append_end(&mut state, record) {
            state.abandon(id);
            return Err(error);
        }
        self.end_abandoned(&mut state);
        Ok(())
    }

    fn append_end(&self, state: &mut State, mut record: UsageRecord) -> Result<(), JournalError> {
        let mut line = Entry::Ended(&record).to_line()?;
        let has_room = state.open_requests.contains_key(&record.request_id)
            || self.check_room_for(state, line.len() as u64).is_ok();
        if !has_room && record.sql_text.take().is_some() {
            line = Entry::Ended(&record).to_line()?;
        }
        self.append(state, &line)?;
        state.ended += 1;
        state.close(record.request_id);
        let end = state.end();
        state.recent.push(record, line.len() as u64, end);
        Ok(())
    }

    /// Notes that a request ended without a record. If its start is in the journal, it ends as if the server had died
    /// as soon as the journal can be written again.
    pub fn abandon(&self, id: Uuid) {
        self.lock().abandon(id);
    }

    fn end_abandoned(&self, state: &mut State) {
        while let Some(id) = state.abandoned.pop() {
            let request = state.open_requests.get(&id);
            let line = request.and_then(|request| request.line.strip_suffix(b"\n"));
            let Some(Entry::Begun(record)) = line.and_then(Entry::parse) else {
                state.close(id);
                continue;
            };
            let ended_at = record.ended_at;
            if self
                .append_end(state, into_aborted(record, ended_at))
                .is_err()
            {
                // The next end of a request is another attempt.
                state.abandoned.push(id);
                return;
            }
        }
    }

    fn append(&self, state: &mut State, line: &[u8]) -> Result<(), JournalError> {
        let Shared { folder, limit, .. } = &*self.shared;
        if state.file.size() >= file_bytes(*limit) {
            state
                .file
                .finish()
                .map_err(file_error(folder, state.number))?;
            let number = state.number + 1;
            let file = create(folder, number, *limit)?;
            self.shared.syncing.add_unsynced(state.file.file());
            state.older_bytes += state.file.size();
            (state.file, state.number) = (file, number);
        }
        let added = state.file.append(line);
        added.map_err(|source| file_error(folder, state.number)(source))?;
        self.shared.syncing.record_write();
        Ok(())
    }

    /// Deletes the files before `number`, whose entries are all in the ledger.
    pub fn delete_before(&self, number: u64) -> Result<(), JournalError> {
        let mut state = self.lock();
        let number = number.min(state.number);
        let again: Vec<_> = state
            .open_requests
            .iter()
            .filter(|(_, request)| request.number < number)
            .map(|(id, request)| (*id, Arc::clone(&request.line)))
            .collect();
        for (id, line) in again {
            self.append(&mut state, &line)?;
            let now = state.number;
            if let Some(request) = state.open_requests.get_mut(&id) {
                request.number = now;
            }
        }
        let mut freed = 0;
        for number in (1..number).rev() {
            let path = file_path(&self.shared.folder, number);
            let Ok(metadata) = path.metadata() else {
                // This file and those before it are deleted already.
                break;
            };
            std::fs::remove_file(&path).map_err(JournalError::file(&path))?;
            freed += metadata.len();
        }
        state.older_bytes = state.older_bytes.saturating_sub(freed);
        Ok(())
    }

    /// Synchronises written lines to the disk within 100 ms, until the future is dropped.
    pub async fn sync_periodically(&self) {
        self.shared.syncing.run(|| self.lock().file.file()).await;
    }

    /// Waits until all previous writes are on the disk.
    pub async fn wait_until_synced(&self) -> io::Result<()> {
        self.shared.syncing.wait().await
    }

    /// Removes the journal if no request is in progress and the ledger has everything: if `taken` is the end.
    pub fn remove(&self, taken: JournalPosition) -> Result<(), JournalError> {
        let state = self.lock();
        let at_end = taken == state.end();
        if at_end && state.open_requests.is_empty() {
            let folder = &self.shared.folder;
            std::fs::remove_dir_all(folder).map_err(JournalError::file(folder))?;
        }
        Ok(())
    }

    /// Returns the room reserved for the ends of requests, in bytes.
    #[cfg(test)]
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.lock().reserved_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn create(folder: &Path, number: u64, limit: u64) -> Result<JournalFile, JournalError> {
    let pages = JournalFile::create(&file_path(folder, number), file_bytes(limit));
    pages.map_err(file_error(folder, number))
}

fn file_bytes(limit: u64) -> u64 {
    MAX_FILE_BYTES.min(limit / MIN_FILES)
}

fn file_error(folder: &Path, number: u64) -> impl Fn(io::Error) -> JournalError + use<> {
    JournalError::file(&file_path(folder, number))
}

/// Returns a builder of folders that only their owner can access: the journal shows who ran which statement.
fn for_owner_only_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}
