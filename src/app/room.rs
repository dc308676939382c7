//! Folders of this machine: whether they can be written, and how much room their disks have left.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock;

/// Why a folder will not do.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// It cannot be made, or nothing can be written in it.
    #[error(
        "the folder {path} cannot be written; check who owns it and that its disk is mounted for writing, or name another"
    )]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Its disk is nearly full.
    #[error("the disk of {path} has {} MiB left, and {} MiB are needed; make room there, or name another folder", free >> 20, needed >> 20)]
    Full {
        /// The folder.
        path: PathBuf,
        /// Bytes that are left.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
}

/// Bytes that this user may still write on the disk that `path` is on, or will be on once it is made.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|place| place.exists());
    fs4::available_space(there.unwrap_or(Path::new("/")))
}

/// Makes the folder if it is not there, and tries to write a file in it, which is removed again.
pub fn try_to_write(folder: &Path) -> Result<(), RoomError> {
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join(format!(".probe-{}", clock::new_id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        drop(options.open(&file)?);
        std::fs::remove_file(file)
    };
    write().map_err(|source| RoomError::NotWritable {
        path: folder.to_owned(),
        source,
    })
}

/// Fails if less than `needed` bytes are left where `folder` is.
pub fn check_room(folder: &Path, needed: u64) -> Result<(), RoomError> {
    // Where the system does not tell, writing will.
    match free_space(folder) {
        Ok(free) if free < needed => Err(RoomError::Full {
            path: folder.to_owned(),
            free,
            needed,
        }),
        _ => Ok(()),
    }
}
