//! The journals of a machine as files that can be copied while servers write to them, and put back.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{JournalError, LOCK};

/// Whether a server lives that has a journal in `folder`.
pub fn is_in_use(folder: &Path) -> Result<bool, JournalError> {
    for journal in journals(folder)? {
        let path = journal.join(LOCK);
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

/// The files of all journals in `folder` that say what the ledger may not have, in the order in which they are to be read;
/// paths are below it. Those that are gone when they are to be read had been added to the ledger by then: whoever copies
/// the ledger afterwards has missed nothing.
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
    // What is left of a write that a kill interrupted, or is not ours, says nothing.
    files.retain(|path| {
        let ends = path.extension().and_then(|ending| ending.to_str());
        matches!(ends, Some("log" | "jsonl")) || path.ends_with(LOCK)
    });
    let below = files
        .iter()
        .filter_map(|path| path.strip_prefix(folder).ok());
    let mut below: Vec<PathBuf> = below.map(Path::to_owned).collect();
    below.sort();
    Ok(below)
}

/// The folders of the journals.
fn journals(folder: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let is_journal = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| Uuid::try_parse(name).is_ok())
    };
    Ok(list(folder)?.into_iter().filter(is_journal).collect())
}

/// What is in a folder; nothing, if it is gone.
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
