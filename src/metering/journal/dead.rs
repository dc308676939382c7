//! The journals of servers that died: requests that had ended go into the ledger; those in progress were aborted.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::entry::Entry;
use super::reader::Reader;
use super::{JournalError, LOCK, Place};
use crate::model::{ABORTED, UsageRecord};

/// The journal of a server that died. Its lock is held.
#[derive(Debug)]
pub(in crate::metering) struct Dead {
    folder: PathBuf,
    /// Closing the file releases the lock.
    _lock: File,
}

/// Reads the journal of a dead server in parts, since it may be too large for memory.
#[derive(Debug)]
pub(in crate::metering) struct Reading {
    reader: Reader,
    end: Place,
    /// Requests that have begun and have not ended so far.
    open: HashMap<Uuid, UsageRecord>,
    /// The time of the last entry.
    heard: Option<DateTime<Utc>>,
}

/// A part of the journal of a dead server.
#[derive(Debug, Default)]
pub(in crate::metering) struct Left {
    /// Requests that had ended.
    pub ended: Vec<UsageRecord>,
    /// The number of unreadable lines.
    pub damaged: u64,
}

impl Dead {
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
            let Ok(lock) = File::open(folder.join(LOCK)) else {
                continue;
            };
            match lock.try_lock() {
                Ok(()) if folder.join(LOCK).exists() => found.push(Self {
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
    pub fn reading(&self) -> Result<Reading, JournalError> {
        let failed = JournalError::file(&self.folder);
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        let mut reader = Reader::new(&self.folder);
        let mut end = Place::START;
        if let (Some(first), Some(last)) = (numbers.iter().min(), numbers.iter().max()) {
            let path = super::path_of(&self.folder, *last);
            let size = path.metadata().map_err(JournalError::file(&path))?.len();
            end = Place {
                number: *last,
                size,
            };
            reader.move_to(Place {
                number: *first,
                size: 0,
            });
        }
        Ok(Reading {
            reader,
            end,
            open: HashMap::new(),
            heard: None,
        })
    }

    /// Deletes the journal, whose entries are all in the ledger.
    pub fn remove(self) -> Result<(), JournalError> {
        std::fs::remove_dir_all(&self.folder).map_err(JournalError::file(&self.folder))
    }
}

impl Reading {
    /// Reads about `max_bytes` bytes; returns `None` at the end.
    pub fn next(&mut self, most: u64) -> Result<Option<Left>, JournalError> {
        let (part, upto) = self.reader.next(self.end, most)?;
        if upto == self.reader.at() {
            return Ok(None);
        }
        self.reader.move_to(upto);
        let mut left = Left {
            damaged: part.damaged,
            ..Left::default()
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
            self.heard = self.heard.max(Some(heard));
        }
        Ok(Some(left))
    }

    /// Returns the requests that had not ended in the parts read so far, as aborted at the time of the last entry.
    pub fn aborted(self) -> Vec<UsageRecord> {
        let mut aborted: Vec<_> = self.open.into_values().collect();
        aborted.sort_by_key(|record| record.request_id);
        for record in &mut aborted {
            record.status = ABORTED.into();
            if let Some(heard) = self.heard {
                record.ended_at = heard;
            }
            let took = record.ended_at - record.started_at;
            record.duration_microseconds = took.num_microseconds().map_or(0, i64::unsigned_abs);
        }
        aborted
    }
}
