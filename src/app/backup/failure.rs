//! The errors of backup and restore.

use std::path::PathBuf;

use crate::backup::{BackupError, Part};
use crate::lake::StoreError as LakeError;
use crate::lake::records::runs::RunsError;
use crate::metering::JournalError;
use crate::store::StoreError;

/// An error of a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailure {
    /// The backup file, or a file to be backed up, cannot be read or written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The organisation database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake cannot be opened.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The log of runs cannot be read or written.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// The journal of requests cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The organisation database to be backed up does not exist.
    #[error(
        "cannot back up the organisation database: {} does not exist; check `organisation_url` and `state`, or select other \
         parts with --only",
        .0.display()
    )]
    NoDatabase(PathBuf),
    /// The backup does not contain a requested part.
    #[error("the backup has no part {part}; it has {has}")]
    NoPart {
        /// The part.
        part: Part,
        /// The parts that the backup contains.
        has: String,
    },
    /// A server is using the state folder.
    #[error(
        "cannot restore: a server is running on the state folder {}; stop it first, because its data must not change while it \
         runs",
        .0.display()
    )]
    Serving(PathBuf),
    /// Another restore is using the state folder.
    #[error("another restore is running on the state folder {}", .0.display())]
    Restoring(PathBuf),
    /// Existing data would have to be overwritten.
    #[error(
        "cannot restore: existing data would be overwritten; nothing was restored. Existing data:{}\nMove it away{}",
        list_items(.there),
        describe_alternative(.free)
    )]
    Conflict {
        /// The existing files and tables.
        there: Vec<String>,
        /// The parts that can be restored without overwriting anything, separated by commas.
        free: String,
    },
    /// The database has a later schema than the backup.
    #[error(
        "the organisation database {url} has a later schema version ({there}) than the backup ({schema}); use an empty database"
    )]
    LaterSchema {
        /// Its URL.
        url: String,
        /// The version of its schema.
        there: i64,
        /// The version of the backup's schema.
        schema: i64,
    },
    /// The backup has a later schema than this program.
    #[error(
        "the backup was made by a later version of plantlake ({program}): its organisation database has schema version \
         {schema}; restore it with that version"
    )]
    LaterProgram {
        /// The version of plantlake that made the backup.
        program: String,
        /// The version of its schema.
        schema: i64,
    },
    /// The restored rows, read back from the database, differ from the backup.
    #[error(
        "the rows in the organisation database differ from the backup ({0}); nothing was restored"
    )]
    Mismatch(String),
}

/// The maximum number of existing items that an error lists.
const MAX_LISTED: usize = 10;

fn list_items(there: &[String]) -> String {
    let mut listed: String = there
        .iter()
        .take(MAX_LISTED)
        .map(|one| format!("\n  {one}"))
        .collect();
    if there.len() > MAX_LISTED {
        listed.push_str(&format!("\n  and {} more", there.len() - MAX_LISTED));
    }
    listed
}

fn describe_alternative(free: &str) -> String {
    match free.is_empty() {
        true => String::new(),
        false => format!(", or restore only the parts without existing data: --only {free}"),
    }
}
