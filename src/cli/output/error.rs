//! Errors of writing to standard output.

use std::io::{self, ErrorKind};

/// The text of [`OutputError::Closed`], by which [`is_closed_output`] recognises it.
const CLOSED_OUTPUT_TEXT: &str = "the reader of standard output has closed it";

/// An error of writing to standard output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader closed the pipe, as `head` does. The program ends without an error.
    #[error("{CLOSED_OUTPUT_TEXT}")]
    Closed,
    /// Any other error, such as a full disk.
    #[error("cannot write to standard output")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(error)
        }
    }
}

/// Whether the cause of `error` is that the reader closed standard output.
pub fn is_closed_output(error: &anyhow::Error) -> bool {
    // Libraries that write through `Terminal::writer` wrap its errors, some of them only as text.
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(OutputError::Closed))
            || cause.to_string().contains(CLOSED_OUTPUT_TEXT)
    })
}
