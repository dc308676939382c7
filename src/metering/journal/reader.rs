//! Reads a journal incrementally while it is being written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::error::JournalError;
use super::file_names::file_path;
use super::position::JournalPosition;
use crate::model::UsageRecord;

/// A part of a journal.
#[derive(Debug, Default)]
pub(in crate::metering) struct JournalPart {
    /// The entries, in the order in which they were written.
    pub entries: Vec<Entry>,
    /// The number of unreadable lines.
    pub damaged: u64,
}

impl JournalPart {
    /// Returns the records of the requests that ended.
    pub fn into_ended(self) -> impl Iterator<Item = UsageRecord> {
        self.entries.into_iter().filter_map(|entry| match entry {
            Entry::Ended(record) => Some(record),
            Entry::Begun(_) => None,
        })
    }
}

/// Reads a journal.
#[derive(Debug, Clone)]
pub(in crate::metering) struct JournalReader {
    folder: PathBuf,
    position: JournalPosition,
}

impl JournalReader {
    /// Creates a reader at the beginning of the journal in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            position: JournalPosition::START,
        }
    }

    /// Returns the position up to which the journal was read.
    pub fn position(&self) -> JournalPosition {
        self.position
    }

    /// Sets the position up to which the journal was read.
    pub fn set_position(&mut self, place: JournalPosition) {
        self.position = place;
    }

    /// Reads about `max_bytes` bytes after the position, up to `end`; returns them with the position after them.
    pub fn next(
        &self,
        end: JournalPosition,
        max_bytes: u64,
    ) -> Result<(JournalPart, JournalPosition), JournalError> {
        let mut part = JournalPart::default();
        let mut at = self.position;
        let mut bytes = 0;
        while at < end && bytes < max_bytes {
            let path = file_path(&self.folder, at.number);
            let failed = JournalError::file(&path);
            let file = File::open(&path).map_err(&failed)?;
            let size = match at.number < end.number {
                true => file.metadata().map_err(&failed)?.len(),
                false => end.offset,
            };
            let upto = size.min(at.offset.saturating_add(max_bytes - bytes));
            let read = part.read(file, at.offset, upto, size).map_err(&failed)?;
            bytes += read;
            at.offset += read;
            if at.offset >= size && at.number < end.number {
                at = JournalPosition {
                    number: at.number + 1,
                    offset: 0,
                };
            } else if read == 0 {
                break;
            }
        }
        Ok((part, at))
    }
}

impl JournalPart {
    /// Reads the lines of `file` that begin between `from` and `upto`; returns their size in bytes. The file is not
    /// written yet beyond `size`.
    fn read(&mut self, mut file: File, from: u64, upto: u64, size: u64) -> io::Result<u64> {
        file.seek(SeekFrom::Start(from))?;
        let mut lines = BufReader::new(file.take(size - from.min(size)));
        let (mut line, mut read) = (Vec::new(), 0);
        while from + read < upto {
            line.clear();
            let count = lines.read_until(b'\n', &mut line)? as u64;
            if count == 0 {
                break;
            }
            read += count;
            match line.strip_suffix(b"\n").and_then(Entry::parse) {
                Some(entry) => self.entries.push(entry),
                // The last line of a dead server may be incomplete. Its request has not ended.
                None if line.last() != Some(&b'\n') => {}
                None => self.damaged += 1,
            }
        }
        Ok(read)
    }
}
