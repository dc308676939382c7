//! Settings of metering.

use std::path::PathBuf;

use crate::config::JournalFullAction;

/// Whether metering is off: only in a build for benchmarks that measure the cost of metering.
pub const IS_DISABLED: bool = cfg!(feature = "unmetered");

/// Settings of metering.
#[derive(Debug, Clone)]
pub struct MeterSettings {
    /// The folder of the journals.
    pub folder: PathBuf,
    /// The maximum size of the journal, in bytes.
    pub limit: u64,
    /// The behaviour when the journal is full.
    pub when_full: JournalFullAction,
    /// Whether a response waits until its record is synchronised to the disk.
    pub sync: bool,
    /// Whether the text of statements is stored.
    pub sql: bool,
}
