//! Errors of backups.

use std::io;
use std::path::{Path, PathBuf};

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
