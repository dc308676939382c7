//! A file of the journal while it is being written. On file systems where an allocated page can always be written, lines are
//! copied to a memory map of the file: with one system call per line and four lines per query, the calls made up a fifth of
//! the cost of metering. Like data written by a call, data in the map survives the death of the process. On other file
//! systems each line is written by a call.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};

use crate::store::for_owner_only;

/// The number of bytes by which a file grows, if it is large enough.
const GROWTH_BYTES: u64 = 64 << 10;

/// A file of the journal. It may end with zeros, which no line contains.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: Arc<File>,
    /// The size of its lines, in bytes.
    size: u64,
    step: u64,
    method: WriteMethod,
}

/// The method of writing.
#[derive(Debug)]
enum WriteMethod {
    SystemCalls,
    /// The file has `room` bytes. The map begins at the given offset; there is none before the first line.
    Map {
        room: u64,
        map: Option<(u64, MmapMut)>,
    },
}

impl WriteMethod {
    const MAP: Self = Self::Map { room: 0, map: None };
}

impl JournalFile {
    /// Creates a file that will have about `bytes` bytes.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = for_owner_only(options.create_new(true).read(true).append(true)).open(path)?;
        let by = match keeps_pages(&file) {
            true => WriteMethod::MAP,
            false => WriteMethod::SystemCalls,
        };
        Ok(Self {
            file: Arc::new(file),
            size: 0,
            step: GROWTH_BYTES.min(bytes / 4).max(1),
            method: by,
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
        match self.method {
            WriteMethod::SystemCalls => size,
            WriteMethod::Map { room, .. } => size.next_multiple_of(self.step).max(room),
        }
    }

    /// Appends a line. If that fails, nothing of it is left that could be read as a line.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let end = self.size + line.len() as u64;
        match &mut self.method {
            WriteMethod::SystemCalls => {
                if let Err(error) = (&*self.file).write_all(line) {
                    // The next line must not continue this one. If truncation fails too, the checksum reveals it.
                    let _ = self.file.set_len(self.size);
                    return Err(error);
                }
            }
            WriteMethod::Map { room, map } => {
                if end > *room {
                    let more = end.next_multiple_of(self.step);
                    *map = None;
                    allocate(&self.file, *room, more)?;
                    *room = more;
                }
                if map.is_none() {
                    *map = Some((self.size, map_range(&self.file, self.size, *room)?));
                }
                let place = map.as_mut().and_then(|(from, bytes)| {
                    let at = usize::try_from(self.size - *from).ok()?;
                    bytes.get_mut(at..at + line.len())
                });
                // The room was made above.
                place
                    .ok_or(io::ErrorKind::StorageFull)?
                    .copy_from_slice(line);
            }
        }
        self.size = end;
        Ok(())
    }

    /// Truncates the file to its lines.
    pub fn finish(&mut self) -> io::Result<()> {
        if let WriteMethod::Map { room, map } = &mut self.method {
            *map = None;
            self.file.set_len(self.size)?;
            *room = self.size;
        }
        Ok(())
    }
}

/// Writes zeros up to `room`, so that a full disk is an error now. Touching a mapped page that has no space on the disk would
/// kill the process.
fn allocate(mut file: &File, from: u64, room: u64) -> io::Result<()> {
    let mut zeros = io::repeat(0).take(room - from);
    if let Err(error) = io::copy(&mut zeros, &mut file) {
        let _ = file.set_len(from);
        return Err(error);
    }
    Ok(())
}

fn map_range(file: &File, from: u64, to: u64) -> io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    let length = usize::try_from(to - from).map_err(io::Error::other)?;
    options.offset(from).len(length);
    #[expect(
        unsafe_code,
        reason = "a memory map is sound only if nothing else changes the file: this file belongs to its server alone, which \
                  holds the lock of its folder, never truncates it below the mapped range, and only writes to the map"
    )]
    // SAFETY: see above.
    unsafe {
        options.map_mut(file)
    }
}

/// Whether an allocated page of the file can always be written. That is false on copy-on-write file systems (btrfs, zfs, xfs
/// after a reflink copy) and on remote ones, and is assumed to be false on unknown ones.
#[cfg(target_os = "linux")]
fn keeps_pages(file: &File) -> bool {
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;

    /// The magic numbers of ext2, ext3 and ext4, and of tmpfs.
    const KEEPING: [u64; 2] = [0xef53, 0x0102_1994];
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    #[expect(unsafe_code, reason = "a C function that fills in a struct")]
    // SAFETY: the descriptor is open, and the struct is read only if `fstatfs` filled it in.
    let kind = unsafe {
        match libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) {
            0 => Some(found.assume_init().f_type),
            _ => None,
        }
    };
    kind.and_then(|kind| u64::try_from(kind).ok())
        .is_some_and(|kind| KEEPING.contains(&kind))
}

/// Other systems were not examined.
#[cfg(not(target_os = "linux"))]
fn keeps_pages(_file: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(by: impl FnOnce(JournalFile) -> JournalFile) -> (tempfile::TempDir, JournalFile) {
        let folder = tempfile::tempdir().unwrap();
        let pages = JournalFile::create(&folder.path().join("1"), 1 << 20).unwrap();
        (folder, by(pages))
    }

    #[test]
    fn append_writes_lines_at_once_followed_by_zeros_only() {
        let by_calls = |pages: JournalFile| JournalFile {
            method: WriteMethod::SystemCalls,
            ..pages
        };
        let by_map = |pages: JournalFile| JournalFile {
            method: WriteMethod::MAP,
            ..pages
        };
        for (folder, mut pages) in [pages(by_calls), pages(by_map)] {
            let path = folder.path().join("1");
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
}
