//! The file format of backups: a tar archive compressed with zstd, which `tar --zstd -xf` extracts, too.
//!
//! The first member is the header ([`BackupHeader`]). The last member contains the digests ([`Digest`]) of all others;
//! a file without it was truncated. Each member in between is named `<part>/<file>` and is a file of a [`Part`]. A
//! backup is written next to its destination and moved there once it is on disk. Nothing is extracted before the whole
//! archive has been read once and compared with the digests.

mod digest;
mod folder;
mod header;
mod reader;
mod restore_folder;
mod writer;

use std::io;
use std::path::{Component, Path, PathBuf};

pub use digest::{Digest, DigestHasher, Digests};
pub use folder::{Stamps, files_below};
pub use header::{BackupHeader, DatabaseHeader, FORMAT, Part};
pub use reader::{Archive, Member, VerifiedBackup};
pub use restore_folder::{NewFolders, RestoreFolder};
pub use writer::{BackupWriter, FinishedBackup};

/// The name of the first member, the header.
const HEADER_FILE: &str = "plantlake-backup.json";
/// The name of the last member, the digests.
const DIGESTS_FILE: &str = "digests.json";

/// An error of writing, reading or restoring a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed operation as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not a backup.
    #[error("{} is not a backup made by `plantlake backup`", .0.display())]
    NotABackup(PathBuf),
    /// The backup has a later version of the format.
    #[error(
        "cannot read the backup {}: it was made by plantlake {program}, in format {format}, \
         which this version does not support; restore it with that version",
        path.display()
    )]
    FormatTooNew {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        format: u64,
        /// The version of plantlake that made it.
        program: String,
    },
    /// The content is incomplete, or differs from what was written.
    #[error("the backup {} is damaged or truncated: {problem}. Nothing was restored; use another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The destination exists and is not a backup.
    #[error("{} already exists and is not a readable backup; it was not overwritten. Use another file name", .0.display())]
    DestinationExists(PathBuf),
    /// A file changed while it was copied.
    #[error("{} changed while it was copied; run the backup again", .0.display())]
    Changed(PathBuf),
    /// The name of a file is not allowed in an archive.
    #[error("cannot back up the file {name:?}: {problem}")]
    Name {
        /// The name.
        name: String,
        /// The problem with it.
        problem: &'static str,
    },
}

impl BackupError {
    /// Returns a function that wraps an I/O error: cannot `action` `path`.
    pub fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path: path.clone(),
            source,
        }
    }
}

/// Checks that `name` is valid for a member: a relative path without hidden, empty or parent components.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 4_096 {
        return Err("it is empty or too long");
    }
    if name.split('/').any(|part| part.starts_with('.')) {
        return Err("it is hidden or leaves its folder");
    }
    if name.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let stays = |part: Component| matches!(part, Component::Normal(_));
    let parts = name.split('/').count();
    let found = Path::new(name).components();
    // `Path::components` drops the empty component of `a//b` and the `.` of `a/./b`.
    match found.clone().count() == parts && found.clone().all(stays) {
        true => Ok(()),
        false => Err("it leaves its folder"),
    }
}

/// Returns the folder that contains `path`; `.` if the path names none.
fn parent_folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Waits until the entries of a folder are on disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
