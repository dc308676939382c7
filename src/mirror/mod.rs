//! The mirror: recent averages in a Postgres database, for dashboards and applications that query it in SQL.
//!
//! It is a copy of what the lake has published, limited to a window per table. `plan` determines which dates may differ
//! (without I/O), `fill` makes them equal, `run` combines both. The names of the files that a date was copied from are
//! stored as a hash beside its rows, in the same transaction; the files are immutable. So a run needs no state of its own.
//! Whatever happened to the lake (late readings, corrections, removals, a restore, another lake altogether), only dates from
//! other files are compared.

mod assets;
mod copy_format;
mod error;
mod fill;
mod plan;
mod prune;
mod reader;
mod report;
mod run;
mod schema;
mod session;
mod state;
mod statements;
mod table_columns;

use std::time::Duration;

pub use error::MirrorError;
pub use report::{AssetReport, Outcome, Report, Status, TableReport, TableWindow};
pub use run::{Mirror, examine, status};

/// Options of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether to compare everything in the window, regardless of the stored hashes.
    pub full: bool,
    /// Whether only to report what would be done.
    pub dry_run: bool,
}

/// Receives the progress of a run.
pub trait Progress: Send + Sync {
    /// About `rows` rows will be sent.
    fn expect(&self, rows: u64);
    /// Another `rows` rows were sent.
    fn sent(&self, rows: u64);
    /// An attempt failed; everything starts over after the wait.
    fn retrying(&self, problem: &MirrorError, wait: Duration);
}
