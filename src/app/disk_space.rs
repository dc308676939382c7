//! Checks folders of this machine: write access, and free space on their disks.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock;

/// An error of checking a folder.
#[derive(Debug, thiserror::Error)]
pub enum DiskSpaceError {
    /// The folder cannot be created or written.
    #[error(
        "cannot write to the folder {path}; check its owner and that its disk is mounted for writing, or use another folder"
    )]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The disk of the folder has too little free space.
    #[error(
        "the disk of {path} has {} MiB free, and {} MiB are needed; free disk space, or use another folder",
        free >> 20,
        needed >> 20
    )]
    Full {
        /// The folder.
        path: PathBuf,
        /// The free space in bytes.
        free: u64,
        /// The needed space in bytes.
        needed: u64,
    },
}

/// Returns the free space for this user, in bytes, on the disk of `path`. If `path` does not exist yet, its closest
/// existing parent folder counts.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|place| place.exists());
    fs4::available_space(there.unwrap_or(Path::new("/")))
}

/// Creates the folder if it does not exist, and writes a file in it, which is then removed.
pub fn check_writable(folder: &Path) -> Result<(), DiskSpaceError> {
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join(format!(".probe-{}", clock::new_id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        drop(options.open(&file)?);
        std::fs::remove_file(file)
    };
    write().map_err(|source| DiskSpaceError::NotWritable {
        path: folder.to_owned(),
        source,
    })
}

/// Checks that at least `needed` bytes are free on the disk of `folder`.
pub fn check_free_space(folder: &Path, needed: u64) -> Result<(), DiskSpaceError> {
    // If the free space is unknown, a write that fails reports the full disk.
    match free_space(folder) {
        Ok(free) if free < needed => Err(DiskSpaceError::Full {
            path: folder.to_owned(),
            free,
            needed,
        }),
        _ => Ok(()),
    }
}
