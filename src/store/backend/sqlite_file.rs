//! The file of a SQLite database: created for its owner only, and locked during migrations.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;

/// Creates the folder and the file if they do not exist. The file holds password hashes, so only its owner may read it;
/// SQLite gives its companion files (`-wal`, `-shm`) the same permissions.
///
/// An existing file is never opened here. Closing it would release all locks that SQLite holds on it in this process,
/// because POSIX locks belong to the process and not to the descriptor. Another process would then take itself for the
/// last one and remove the write-ahead log while it is in use, which damages the database
/// (<https://sqlite.org/howtocorrupt.html>, 2.2).
pub(in crate::store) fn create_if_missing(path: &Path) -> Result<(), StoreError> {
    let make = || -> io::Result<()> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)?;
        }
        match for_owner_only(OpenOptions::new().append(true).create_new(true)).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    };
    make().map_err(|source| StoreError::File {
        path: path.to_owned(),
        source,
    })
}

/// Restricts a new file to its owner (mode 0600).
#[cfg(unix)]
pub(crate) fn for_owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

/// Other platforms have no modes: new files get the permissions that the folder prescribes.
#[cfg(not(unix))]
pub(crate) fn for_owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// A lock held by the one process that connects for the first time or migrates. It is released as soon as its holder
/// ends or dies.
pub(in crate::store) struct MigrationLock {
    /// Closing the file releases the lock.
    _file: File,
}

impl MigrationLock {
    /// Waits until no other process connects to the database at `path` or migrates it, and takes the lock.
    pub async fn acquire(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".migration-lock");
        let path = PathBuf::from(name);
        let shown = path.clone();
        let lock = move || -> io::Result<Self> {
            let mut options = OpenOptions::new();
            let file = for_owner_only(options.append(true).create(true)).open(&path)?;
            file.lock()?;
            Ok(Self { _file: file })
        };
        let joined = tokio::task::spawn_blocking(lock).await;
        joined
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| StoreError::File {
                path: shown,
                source,
            })
    }
}
