//! The raw files: which there are, what they hold, and their readings in one form, however they were written.

mod byte_lengths;
mod canonical;
mod checked_reader;
mod contents;
mod footer;
mod incoming;
mod listing;
mod pages;
mod read;
pub mod shelf;
mod statistics;
mod survey;
#[cfg(test)]
mod tests;
mod thrift;
mod zone;

use chrono_tz::Tz;

use crate::model::Window;

pub use contents::{AssetGroup, ContentsBuilder, FileContents, contents};
pub use incoming::Incoming;
pub use listing::{RawError, RawFile, list};
pub use read::{Want, read};
pub use survey::{Survey, survey};

/// The names of the three columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnNames {
    /// The asset's UUID.
    pub id: String,
    /// The time.
    pub timestamp: String,
    /// The value.
    pub value: String,
}

/// How raw files are to be understood.
#[derive(Debug, Clone)]
pub struct RawFormat {
    /// Which columns.
    pub columns: ColumnNames,
    /// The zone of timestamps without one.
    pub timezone: Tz,
    /// Readings outside have no usable time.
    pub plausible: Window,
}

/// Why nothing can be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It is not a Parquet file, or a damaged one.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file, below the raw folder.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refuses it; that can change without a change of the file.
    #[error("{path} cannot be opened: {reason}. Let plantlake read it")]
    Refused {
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// A column is not there.
    #[error(
        "{path} has no column {column:?}: it has {found}. Rename it, or map it in jobs/resample.toml"
    )]
    MissingColumn {
        /// The file.
        path: String,
        /// The column.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// A column has a type that cannot be used.
    #[error("{path}: column {column:?} is {found}, and must be {expected}")]
    WrongType {
        /// The file.
        path: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// It is not the file that was listed.
    #[error("{path} changed while it was read")]
    Changed {
        /// The file.
        path: String,
    },
    /// The store fails; the file may be in order.
    #[error("{path} cannot be fetched")]
    Store {
        /// The file.
        path: String,
        /// What the store says.
        source: Box<object_store::Error>,
    },
}

impl FileFault {
    /// What an error of the Parquet library means for the file.
    fn of(path: &str, error: &parquet::errors::ParquetError) -> Self {
        let path = path.to_owned();
        if let parquet::errors::ParquetError::External(inner) = error
            && let Some(store) = crate::lake::pinned::store_error(&**inner)
        {
            return match store {
                object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => {
                    Self::Changed { path }
                }
                other if of_this_file(other) => Self::Refused {
                    path,
                    reason: first_line(&root_of(other)),
                },
                other => Self::Store {
                    path,
                    source: Box::new(object_store::Error::Generic {
                        store: "raw",
                        source: other.to_string().into(),
                    }),
                },
            };
        }
        let text = error.to_string();
        // What is found here is said as it is.
        let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
        Self::Unreadable {
            path,
            reason: first_line(text),
        }
    }
}

/// Whether the operating system refused this very file; a store that is away refuses all.
fn of_this_file(error: &object_store::Error) -> bool {
    const EIO: i32 = 5;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::PermissionDenied
                || io.raw_os_error() == Some(EIO);
        }
        source = error.source();
    }
    false
}

/// The innermost reason.
fn root_of(error: &object_store::Error) -> String {
    let mut source: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}
