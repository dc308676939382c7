//! The journals of a machine as files that can be copied while servers write to them, and restored.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::JournalError;
use super::file_names::LOCK_FILE;

/// Whether a server that is running has a journal in `folder`.
pub fn is_in_use(folder: &Path) -> Result<bool, JournalError> {
    for journal in journals(folder)? {
        let path = journal.join(LOCK_FILE);
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(JournalError::file(&path)(error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(JournalError::file(&path)(error)),
        }
    }
    Ok(false)
}

/// Returns the files of all journals in `folder` with entries that may not be in the ledger, in the order in which they
/// must be read; the paths are relative to `folder`. If a file no longer exists when it is to be read, its entries were
/// added to the ledger before. So a copy of the ledger that is made afterwards contains them.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let mut files = Vec::new();
    for path in list(folder)? {
        if path.is_file() {
            files.push(path);
        }
    }
    for journal in journals(folder)? {
        files.extend(list(&journal)?);
    }
    // Remains of an interrupted write and foreign files contain no entries.
    files.retain(|path| {
        let ends = path.extension().and_then(|ending| ending.to_str());
        matches!(ends, Some("log" | "jsonl")) || path.ends_with(LOCK_FILE)
    });
    let below = files
        .iter()
        .filter_map(|path| path.strip_prefix(folder).ok());
    let mut below: Vec<PathBuf> = below.map(Path::to_owned).collect();
    below.sort();
    Ok(below)
}

/// Returns the folders of the journals.
fn journals(folder: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let is_journal = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| Uuid::try_parse(name).is_ok())
    };
    Ok(list(folder)?.into_iter().filter(is_journal).collect())
}

/// Lists a folder; returns nothing if it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let failed = JournalError::file(folder);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect::<io::Result<_>>().map_err(failed)
}
