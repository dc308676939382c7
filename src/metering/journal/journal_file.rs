//! A file of the journal while it is being written. It grows by room filled with zeros, into which lines are written: a full
//! disk is then noticed when the file grows, and a sync of lines does not have to write the file's size and its blocks' places,
//! too.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::store::for_owner_only;

/// The number of bytes by which a file grows, if it is large enough.
const GROWTH_BYTES: u64 = 64 << 10;

/// A file of the journal. It may end with zeros, which no line contains.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: Arc<File>,
    /// The size of its lines, in bytes.
    size: u64,
    /// The size of the file, in bytes.
    room: u64,
    step: u64,
}

impl JournalFile {
    /// Creates a file that will have about `bytes` bytes.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = for_owner_only(options.create_new(true).write(true)).open(path)?;
        Ok(Self {
            file: Arc::new(file),
            size: 0,
            room: 0,
            step: GROWTH_BYTES.min(bytes / 4).max(1),
        })
    }

    /// Returns the file, for synchronisation.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns the size of its lines, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the size that the file would have with `more` bytes of lines, in bytes.
    pub fn size_with(&self, more: u64) -> u64 {
        let size = self.size + more;
        size.next_multiple_of(self.step).max(self.room)
    }

    /// Appends a line. If that fails, nothing of it is left that could be read as a line.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let end = self.size + line.len() as u64;
        if end > self.room {
            self.grow(end.next_multiple_of(self.step))?;
        }
        if let Err(error) = self.file.write_all_at(line, self.size) {
            // The next line must not be followed by the rest of this one. If truncation fails too, the checksum reveals it.
            let _ = self.finish();
            return Err(error);
        }
        self.size = end;
        Ok(())
    }

    /// Fills the file with zeros up to `room`. If that fails, the file has the room that it had before.
    fn grow(&mut self, room: u64) -> io::Result<()> {
        static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        let mut at = self.room;
        while at < room {
            let bytes = usize::try_from(room - at).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..bytes).unwrap_or(&ZEROS);
            if let Err(error) = self.file.write_all_at(zeros, at) {
                let _ = self.file.set_len(self.room);
                return Err(error);
            }
            at += zeros.len() as u64;
        }
        self.room = room;
        Ok(())
    }

    /// Truncates the file to its lines.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.set_len(self.size)?;
        self.room = self.size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes to this device fail as on a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn append_to_a_full_disk_fails_and_adds_no_line() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut pages = JournalFile {
            file: Arc::new(full),
            size: 5,
            room: 10,
            step: 10,
        };
        for line in [&b"fits"[..], b"needs more room"] {
            let error = pages.append(line).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!((pages.size(), pages.room), (5, 10));
        }
    }

    #[test]
    fn append_writes_lines_at_once_followed_by_zeros_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1");
        let mut pages = JournalFile::create(&path, 1 << 20).unwrap();
        let mut lines = Vec::new();
        // Across pages and steps, and longer than a step.
        for length in [1, 4_095, 4_096, 4_097, 60_000, 200_000, 7] {
            let line = vec![b'a' + (length % 26) as u8; length];
            assert!(pages.size_with(length as u64) >= (lines.len() + length) as u64);
            let expected = pages.size_with(length as u64);
            pages.append(&line).unwrap();
            lines.extend(line);
            let found = std::fs::read(&path).unwrap();
            let (said, behind) = found.split_at(lines.len());
            assert!(said == lines && behind.iter().all(|byte| *byte == 0));
            assert_eq!(
                (pages.size(), found.len() as u64),
                (lines.len() as u64, expected)
            );
        }
        pages.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == lines);
    }
}
