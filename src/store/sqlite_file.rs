//! The file of a SQLite database: made for its owner only, and locked while it is migrated.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// Makes the folder and the file if they are not there. The file holds password hashes: only its owner may read it,
/// and SQLite gives its companions (`-wal`, `-shm`) the same permissions.
///
/// One that is there is never opened here: closing it would free all locks that SQLite holds on it in this process (POSIX
/// locks belong to the process, not to the descriptor), another process would take itself for the last one, remove the
/// write-ahead log under us, and the database would be damaged (<https://sqlite.org/howtocorrupt.html>, 2.2).
pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
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

/// For files that only their owner may read.
#[cfg(unix)]
pub(crate) fn for_owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

/// Elsewhere files are as the folder says.
#[cfg(not(unix))]
pub(crate) fn for_owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Held by the one process that connects for the first time or migrates; free at once when its holder ends or dies.
pub(super) struct MigrationLock {
    /// Closing it frees the lock.
    _file: File,
}

impl MigrationLock {
    /// Waits until no other process connects to the database at `path`, or migrates it.
    pub async fn take(path: &Path) -> Result<Self, StoreError> {
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
