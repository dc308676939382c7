//! The journals of servers that died: requests that had ended go into the ledger; those in progress were aborted.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::entry::Entry;
use super::error::JournalError;
use super::file_names::{LOCK_FILE, file_path};
use super::position::JournalPosition;
use super::reader::JournalReader;
use crate::model::{ABORTED, UsageRecord};

/// The journal of a server that died. Its lock is held.
#[derive(Debug)]
pub(in crate::metering) struct DeadJournal {
    folder: PathBuf,
    /// Closing the file releases the lock.
    _lock: File,
}

/// Reads the journal of a dead server in parts, since it may be too large for memory.
#[derive(Debug)]
pub(in crate::metering) struct DeadJournalReader {
    reader: JournalReader,
    end: JournalPosition,
    /// Requests that have begun and have not ended so far.
    open: HashMap<Uuid, UsageRecord>,
    /// The time of the last entry.
    last_entry_at: Option<DateTime<Utc>>,
}

/// A part of the journal of a dead server.
#[derive(Debug, Default)]
pub(in crate::metering) struct RecoveredPart {
    /// Requests that had ended.
    pub ended: Vec<UsageRecord>,
    /// The number of unreadable lines.
    pub damaged: u64,
}

impl DeadJournal {
    /// Finds and locks all journals of dead servers in `folder`.
    pub fn find(folder: &Path) -> Result<Vec<Self>, JournalError> {
        let failed = JournalError::file(folder);
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let folder = entry.map_err(&failed)?.path();
            let is_journal = folder
                .file_name()
                .and_then(|name| Uuid::try_parse(name.to_str()?).ok());
            if is_journal.is_none() {
                continue;
            }
            // The folder may be deleted at this moment, or its server may be about to lock it.
            let Ok(lock) = File::open(folder.join(LOCK_FILE)) else {
                continue;
            };
            match lock.try_lock() {
                Ok(()) if folder.join(LOCK_FILE).exists() => found.push(Self {
                    folder,
                    _lock: lock,
                }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(JournalError::file(&folder)(error)),
            }
        }
        Ok(found)
    }

    /// Returns the folder of the journal.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts to read the journal.
    pub fn open_reader(&self) -> Result<DeadJournalReader, JournalError> {
        let failed = JournalError::file(&self.folder);
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        let mut reader = JournalReader::new(&self.folder);
        let mut end = JournalPosition::START;
        if let (Some(first), Some(last)) = (numbers.iter().min(), numbers.iter().max()) {
            let path = file_path(&self.folder, *last);
            let size = path.metadata().map_err(JournalError::file(&path))?.len();
            end = JournalPosition {
                number: *last,
                offset: size,
            };
            reader.set_position(JournalPosition {
                number: *first,
                offset: 0,
            });
        }
        Ok(DeadJournalReader {
            reader,
            end,
            open: HashMap::new(),
            last_entry_at: None,
        })
    }

    /// Deletes the journal, whose entries are all in the ledger.
    pub fn remove(self) -> Result<(), JournalError> {
        std::fs::remove_dir_all(&self.folder).map_err(JournalError::file(&self.folder))
    }
}

impl DeadJournalReader {
    /// Reads about `max_bytes` bytes; returns `None` at the end.
    pub fn next(&mut self, max_bytes: u64) -> Result<Option<RecoveredPart>, JournalError> {
        let (part, upto) = self.reader.next(self.end, max_bytes)?;
        if upto == self.reader.position() {
            return Ok(None);
        }
        self.reader.set_position(upto);
        let mut left = RecoveredPart {
            damaged: part.damaged,
            ..RecoveredPart::default()
        };
        for entry in part.entries {
            let heard = match entry {
                Entry::Begun(record) => {
                    // A later entry replaces an earlier one, which has smaller amounts.
                    let at = record.ended_at;
                    self.open.insert(record.request_id, record);
                    at
                }
                Entry::Ended(record) => {
                    let at = record.ended_at;
                    self.open.remove(&record.request_id);
                    left.ended.push(record);
                    at
                }
            };
            self.last_entry_at = self.last_entry_at.max(Some(heard));
        }
        Ok(Some(left))
    }

    /// Returns the requests that had not ended in the parts read so far, as aborted at the time of the last entry.
    pub fn into_aborted(self) -> Vec<UsageRecord> {
        let last_entry_at = self.last_entry_at;
        let aborted = self.open.into_values().map(|record| {
            let ended_at = last_entry_at.unwrap_or(record.ended_at);
            into_aborted(record, ended_at)
        });
        let mut aborted: Vec<_> = aborted.collect();
        aborted.sort_by_key(|record| record.request_id);
        aborted
    }
}

/// Converts the record of a start to that of a request whose end is unknown.
pub(super) fn into_aborted(record: UsageRecord, ended_at: DateTime<Utc>) -> UsageRecord {
    let took = ended_at - record.started_at;
    UsageRecord {
        status: ABORTED.into(),
        ended_at,
        duration_microseconds: took.num_microseconds().map_or(0, i64::unsigned_abs),
        ..record
    }
}
