//! The reasons why a job specification cannot be used.

use std::path::PathBuf;

/// The reasons why a job specification cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the job spec {path}")]
    Unreadable {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file has an invalid value.
    #[error("invalid job spec {path}, line {line}: {problem}")]
    Invalid {
        /// The path of the file.
        path: PathBuf,
        /// The line, starting with 1.
        line: usize,
        /// The description of the error.
        problem: String,
    },
}
