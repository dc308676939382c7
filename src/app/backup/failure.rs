//! Why there is no backup, or nothing was restored.

use std::path::PathBuf;

use crate::backup::{BackupError, Part};
use crate::lake::StoreError as LakeError;
use crate::lake::runs::RunsError;
use crate::metering::JournalError;
use crate::store::StoreError;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailure {
    /// The file of the backup, or a file that it is of.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The organisation database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lake cannot be opened.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The log of runs.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// The journal of requests.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What matters most would not be in the backup.
    #[error(
        "there is no organisation database at {}. Check `organisation_url` and `state`; or name the parts that there are with --only",
        .0.display()
    )]
    NoDatabase(PathBuf),
    /// A part was named that the backup has not.
    #[error("the backup has no part {part}; it has {has}")]
    NoPart {
        /// The part.
        part: Part,
        /// Those that it has.
        has: String,
    },
    /// A server is at work on what is to be restored.
    #[error("a server is running on the state folder {}; stop it first: what it works with must not change under it", .0.display())]
    Serving(PathBuf),
    /// Another restore is.
    #[error("another restore is at work on the state folder {}", .0.display())]
    Restoring(PathBuf),
    /// Something is there that would have to be overwritten.
    #[error(
        "nothing was restored, because nothing is ever overwritten. In the way {}:{}\nMove that away{}",
        if .there.len() == 1 { "is" } else { "are" }, listed(.there), otherwise(.free)
    )]
    InTheWay {
        /// What is there.
        there: Vec<String>,
        /// The parts that nothing is in the way of, with commas between them.
        free: String,
    },
    /// The database was made by a later version than the backup.
    #[error(
        "the organisation database {url} was made by a later version ({there}) of plantlake's schema than the backup ({schema}); name an empty one"
    )]
    LaterSchema {
        /// Its URL.
        url: String,
        /// The version of its schema.
        there: i64,
        /// That of the backup's.
        schema: i64,
    },
    /// The backup is of a later schema.
    #[error(
        "the backup is of a later version of plantlake ({program}): its organisation database has schema {schema}; restore it with that version"
    )]
    LaterProgram {
        /// The version that made it.
        program: String,
        /// The version of its schema.
        schema: i64,
    },
    /// The database has become something else than what was put into it.
    #[error("the organisation database did not keep what it was given ({0}); nothing was restored")]
    Unlike(String),
}

/// How many things in the way are named.
const NAMED: usize = 10;

fn listed(there: &[String]) -> String {
    let mut listed: String = there
        .iter()
        .take(NAMED)
        .map(|one| format!("\n  {one}"))
        .collect();
    if there.len() > NAMED {
        listed.push_str(&format!("\n  and {} more", there.len() - NAMED));
    }
    listed
}

fn otherwise(free: &str) -> String {
    match free.is_empty() {
        true => String::new(),
        false => format!(", or restore only what nothing is in the way of: --only {free}"),
    }
}
