//! The names of the files of a journal.

use std::path::{Path, PathBuf};

/// The lock file, locked while the server lives.
pub(super) const LOCK_FILE: &str = "lock";

/// Returns the path of the file `number`.
pub(super) fn file_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}
