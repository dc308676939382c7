//! Positions in a journal.

/// A position in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::metering) struct JournalPosition {
    /// The number of the file.
    pub number: u64,
    /// The offset in the file, in bytes.
    pub offset: u64,
}

impl JournalPosition {
    /// The beginning of the journal.
    pub const START: Self = Self {
        number: 1,
        offset: 0,
    };
}
