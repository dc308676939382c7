//! Checks of sizes that untrusted input declares, made before anything is allocated for them.
//!
//! | file | checks |
//! |---|---|
//! | `ipc` | Arrow IPC messages and schemas: nesting depth, number of fields, widths |
//! | `lz4` | the decompressed length of LZ4 data |

pub mod ipc;
pub mod lz4;

/// The error that a declared size is implausible. Its text has no initial capital and no full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodingError(pub String);

impl DecodingError {
    /// Creates an error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
