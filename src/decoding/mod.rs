//! Checks of numbers that somebody else declared, before anything is allocated by them.
//!
//! | file | checks |
//! |---|---|
//! | `ipc` | messages and schemas in the IPC form of Arrow: depth, number of fields, widths |
//! | `lz4` | how long LZ4 data is when it is decompressed |

pub mod ipc;
pub mod lz4;

/// Why something that was declared is not believed: a text without a capital or a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Implausible(pub String);

impl Implausible {
    /// With this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
