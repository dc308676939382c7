//! The reasons why a raw file cannot be read.

use crate::model::with_causes;

/// The reasons why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RawFileError {
    /// The file is not a Parquet file, or is damaged.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The path relative to the raw folder.
        path: String,
        /// The reason.
        reason: String,
    },
    /// The operating system refuses access. This can change without a change to the file.
    #[error("cannot open {path}: {reason}. Give plantlake the permission to read it")]
    AccessDenied {
        /// The path relative to the raw folder.
        path: String,
        /// The operating system's error.
        reason: String,
    },
    /// The entry of the raw folder cannot be used, whatever its contents.
    #[error("cannot use {path}: {reason}")]
    Unlistable {
        /// The path relative to the raw folder.
        path: String,
        /// The reason.
        reason: String,
    },
    /// A file without the ending of Parquet files is none.
    #[error("{path} is not a Parquet file: {reason}")]
    NotParquet {
        /// The path relative to the raw folder.
        path: String,
        /// The reason.
        reason: String,
    },
    /// A column is missing.
    #[error(
        "{path} has no column {column:?}: it has {found}. Rename it, or map it in jobs/resample.toml"
    )]
    MissingColumn {
        /// The path relative to the raw folder.
        path: String,
        /// The name of the missing column.
        column: String,
        /// The names of the columns in the file.
        found: String,
    },
    /// A column has a type that is not supported.
    #[error("{path}: column {column:?} is {found}, and must be {expected}")]
    WrongType {
        /// The path relative to the raw folder.
        path: String,
        /// The name of the column.
        column: String,
        /// The type of the column.
        found: String,
        /// The expected type.
        expected: &'static str,
    },
    /// The file is not the version that was listed.
    #[error("{path} changed while it was read")]
    Changed {
        /// The path relative to the raw folder.
        path: String,
    },
    /// The store fails; the file itself may be valid.
    #[error("cannot fetch {path}")]
    Store {
        /// The path relative to the raw folder.
        path: String,
        /// The store's error.
        source: Box<object_store::Error>,
    },
}

impl RawFileError {
    /// Converts an error of the Parquet library.
    pub(super) fn from_parquet_error(path: &str, error: &parquet::errors::ParquetError) -> Self {
        let path = path.to_owned();
        if let parquet::errors::ParquetError::External(inner) = error
            && let Some(store) = crate::lake::storage::pinned_file::store_error(&**inner)
        {
            return match store {
                object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => {
                    Self::Changed { path }
                }
                other if is_file_specific(other) => Self::AccessDenied {
                    path,
                    reason: first_line(&root_cause(other)),
                },
                other => Self::Store {
                    path,
                    source: Box::new(object_store::Error::Generic {
                        store: "raw",
                        source: with_causes(other).into(),
                    }),
                },
            };
        }
        let text = error.to_string();
        // Errors of the checks in this module are passed through the library, which adds this prefix.
        let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
        Self::Unreadable {
            path,
            reason: first_line(text),
        }
    }
}

/// Whether the operating system refuses this file only. An unavailable store fails for every file.
fn is_file_specific(error: &object_store::Error) -> bool {
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

/// Returns the text of the innermost error.
fn root_cause(error: &object_store::Error) -> String {
    let mut source: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// Returns the beginning of the first line of an error.
pub(super) fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}
