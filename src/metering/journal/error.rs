//! The reasons for which the journal refuses an entry.

use std::io;
use std::path::{Path, PathBuf};

/// The reason for which the journal refuses an entry.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal is full.
    #[error(
        "the journal of requests is full: it has reached {limit} bytes (`metering.journal_size`), \
         because the organisation database has not accepted records for a long time"
    )]
    Full {
        /// The limit in bytes.
        limit: u64,
    },
    /// A file of the journal cannot be used.
    #[error("cannot use the journal {path}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An entry cannot be serialised.
    #[error("cannot write the record of a request")]
    Entry(#[from] serde_json::Error),
}

impl JournalError {
    pub(in crate::metering) fn file(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }
}
