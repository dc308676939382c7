//! The progress of a run.

use std::time::Duration;

use super::error::MirrorError;

/// Receives the progress of a run.
pub trait Progress: Send + Sync {
    /// About `rows` rows will be sent.
    fn expect(&self, rows: u64);
    /// Another `rows` rows were sent.
    fn sent(&self, rows: u64);
    /// An attempt failed; everything starts over after the wait.
    fn retrying(&self, problem: &MirrorError, wait: Duration);
}
