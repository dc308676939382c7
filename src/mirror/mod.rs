//! The mirror: recent averages in a Postgres, for dashboards and applications that speak SQL there.
//!
//! It is a copy that is made equal to what the lake has published, inside a window per table: `plan` says which dates may
//! differ (and does no I/O), `fill` makes them equal, `run` puts it together. What a date of the mirror came from is written
//! down beside its rows, in the same transaction, as the names of files that never change. So a run needs no memory of
//! its own, and whatever happened to the lake (late, corrected, removed, restored, another one altogether), only
//! dates from other files are looked at.

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

use std::time::Duration;

pub use error::MirrorError;
pub use report::{AssetReport, Outcome, Report, Status, TableReport, TableWindow};
pub use run::{Mirror, examine, status};

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Compare everything in the window, whatever is written down.
    pub full: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Is told how far a run is.
pub trait Progress: Send + Sync {
    /// So many rows will be sent, about.
    fn expect(&self, rows: u64);
    /// So many more were sent.
    fn sent(&self, rows: u64);
    /// An attempt failed; after the wait everything begins anew.
    fn again(&self, problem: &MirrorError, wait: Duration);
}
