//! A file of the journal while it is being written to. Where a page that is there can always be written to, lines are copied
//! into a map of the file: four lines to a query, each by a call of its own, were a fifth of what metering costs. What is in
//! the map is the system's, as what was written by a call is. Elsewhere each line is a call.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};

use crate::store::for_owner_only;

/// Room is made for so many bytes at a time, if the file is to be large.
const STEP: u64 = 64 << 10;

/// The file. Behind its lines it may have zeros, which no line has.
#[derive(Debug)]
pub(super) struct Pages {
    file: Arc<File>,
    /// Bytes of its lines.
    size: u64,
    step: u64,
    by: By,
}

/// How it is written to.
#[derive(Debug)]
enum By {
    Calls,
    /// It has so many bytes, and those from a place on are in the map; none of them before the first line.
    Map {
        room: u64,
        map: Option<(u64, MmapMut)>,
    },
}

impl By {
    const MAP: Self = Self::Map { room: 0, map: None };
}

impl Pages {
    /// A new file, which is to have about so many bytes.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = for_owner_only(options.create_new(true).read(true).append(true)).open(path)?;
        let by = match keeps_pages(&file) {
            true => By::MAP,
            false => By::Calls,
        };
        Ok(Self {
            file: Arc::new(file),
            size: 0,
            step: STEP.min(bytes / 4).max(1),
            by,
        })
    }

    /// The file itself, for those who have the disk keep it.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Bytes of its lines.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that it would have with so many more of lines.
    pub fn size_with(&self, more: u64) -> u64 {
        let size = self.size + more;
        match self.by {
            By::Calls => size,
            By::Map { room, .. } => size.next_multiple_of(self.step).max(room),
        }
    }

    /// Adds a line, all of it or, if that fails, nothing that is taken for one.
    pub fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let end = self.size + line.len() as u64;
        match &mut self.by {
            By::Calls => {
                if let Err(error) = (&*self.file).write_all(line) {
                    // What follows must not be taken for the rest of this line. If even that fails, its checksum tells.
                    let _ = self.file.set_len(self.size);
                    return Err(error);
                }
            }
            By::Map { room, map } => {
                if end > *room {
                    let more = end.next_multiple_of(self.step);
                    *map = None;
                    make_room(&self.file, *room, more)?;
                    *room = more;
                }
                if map.is_none() {
                    *map = Some((self.size, map_of(&self.file, self.size, *room)?));
                }
                let place = map.as_mut().and_then(|(from, bytes)| {
                    let at = usize::try_from(self.size - *from).ok()?;
                    bytes.get_mut(at..at + line.len())
                });
                // There is room, see above.
                place
                    .ok_or(io::ErrorKind::StorageFull)?
                    .copy_from_slice(line);
            }
        }
        self.size = end;
        Ok(())
    }

    /// Leaves it as it is read: with its lines and nothing behind them.
    pub fn finish(&mut self) -> io::Result<()> {
        if let By::Map { room, map } = &mut self.by {
            *map = None;
            self.file.set_len(self.size)?;
            *room = self.size;
        }
        Ok(())
    }
}

/// Writes zeros up to `room`: that the disk is full is an error now. To touch a page of a map that has no place on the disk
/// would end the process.
fn make_room(mut file: &File, from: u64, room: u64) -> io::Result<()> {
    let mut zeros = io::repeat(0).take(room - from);
    if let Err(error) = io::copy(&mut zeros, &mut file) {
        let _ = file.set_len(from);
        return Err(error);
    }
    Ok(())
}

fn map_of(file: &File, from: u64, to: u64) -> io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    let length = usize::try_from(to - from).map_err(io::Error::other)?;
    options.offset(from).len(length);
    #[expect(
        unsafe_code,
        reason = "memory that is a file's cannot be promised to keep still: this file is its server's alone, which holds its \
                  folder's lock, never shortens it below what is mapped, and only ever writes to the map"
    )]
    // SAFETY: see above.
    unsafe {
        options.map_mut(file)
    }
}

/// Whether a page that the file has can be written to for as long as the file is there. Not so where a page that changes gets
/// a new place (btrfs, zfs, xfs after a copy that shares), or is somewhere else: what is not known to be so is not.
#[cfg(target_os = "linux")]
fn keeps_pages(file: &File) -> bool {
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;

    /// Of ext2, ext3 and ext4, and of tmpfs.
    const KEEPING: [u64; 2] = [0xef53, 0x0102_1994];
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    #[expect(unsafe_code, reason = "a C function that fills in a struct")]
    // SAFETY: the descriptor is open, and the struct is looked at only if it was filled in.
    let kind = unsafe {
        match libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) {
            0 => Some(found.assume_init().f_type),
            _ => None,
        }
    };
    kind.and_then(|kind| u64::try_from(kind).ok())
        .is_some_and(|kind| KEEPING.contains(&kind))
}

/// Elsewhere nobody has looked.
#[cfg(not(target_os = "linux"))]
fn keeps_pages(_file: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(by: impl FnOnce(Pages) -> Pages) -> (tempfile::TempDir, Pages) {
        let folder = tempfile::tempdir().unwrap();
        let pages = Pages::create(&folder.path().join("1"), 1 << 20).unwrap();
        (folder, by(pages))
    }

    #[test]
    fn lines_are_there_at_once_and_nothing_but_zeros_behind_them() {
        let by_calls = |pages: Pages| Pages {
            by: By::Calls,
            ..pages
        };
        let by_map = |pages: Pages| Pages {
            by: By::MAP,
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
                pages.add(&line).unwrap();
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
