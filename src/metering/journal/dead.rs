//! The journals of servers that are no more: what had ended goes into the ledger, and what had not was aborted.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::entry::Entry;
use super::reader::{Part, Reader};
use super::{JournalError, LOCK, Place};
use crate::model::{ABORTED, UsageRecord};

/// A journal whose server is no more; nobody else has it.
#[derive(Debug)]
pub(in crate::metering) struct Dead {
    folder: PathBuf,
    /// Closing it frees the lock.
    _lock: File,
}

/// What a dead server had done.
#[derive(Debug, Default)]
pub(in crate::metering) struct Left {
    /// The requests that had ended.
    pub ended: Vec<UsageRecord>,
    /// Those that had not, as ended when the server was last heard of.
    pub aborted: Vec<UsageRecord>,
    /// Lines that cannot be read.
    pub damaged: u64,
}

impl Dead {
    /// All in `folder`.
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
            // It may go at this moment, or be about to be locked by the server that makes it.
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

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it says.
    pub fn read(&self) -> Result<Left, JournalError> {
        let part = self.whole()?;
        let heard = part.entries.iter().map(|entry| match entry {
            Entry::Begun(record) => record.started_at,
            Entry::Ended(record) => record.ended_at,
        });
        let heard = heard.max();
        let mut left = Left {
            damaged: part.damaged,
            ..Left::default()
        };
        let mut open: HashMap<Uuid, UsageRecord> = HashMap::new();
        for entry in part.entries {
            match entry {
                Entry::Begun(record) => {
                    open.insert(record.request_id, record);
                }
                Entry::Ended(record) => left.ended.push(record),
            }
        }
        for record in &left.ended {
            open.remove(&record.request_id);
        }
        left.aborted = open.into_values().collect();
        left.aborted.sort_by_key(|record| record.request_id);
        for record in &mut left.aborted {
            record.status = ABORTED.to_owned();
            if let Some(heard) = heard {
                record.ended_at = heard;
            }
            let took = record.ended_at - record.started_at;
            record.duration_microseconds = took.num_microseconds().map_or(0, i64::unsigned_abs);
        }
        Ok(left)
    }

    fn whole(&self) -> Result<Part, JournalError> {
        let failed = JournalError::file(&self.folder);
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        let (Some(first), Some(last)) = (numbers.iter().min(), numbers.iter().max()) else {
            return Ok(Part::default());
        };
        let mut reader = Reader::new(&self.folder);
        let at = |number, size| Place { number, size };
        reader.move_to(at(*first, 0));
        let path = super::path_of(&self.folder, *last);
        let size = path.metadata().map_err(JournalError::file(&path))?.len();
        Ok(reader.next(at(*last, size), u64::MAX)?.0)
    }

    /// Removes it: all that it says has been taken over.
    pub fn remove(self) -> Result<(), JournalError> {
        std::fs::remove_dir_all(&self.folder).map_err(JournalError::file(&self.folder))
    }
}
