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
mod options;
mod plan;
mod progress;
mod prune;
mod reader;
mod report;
mod run;
mod schema;
mod session;
mod state;
mod statements;
mod table_columns;

pub use error::MirrorError;
pub use options::Options;
pub use progress::Progress;
pub use report::{AssetReport, Outcome, Report, Status, TableReport, TableWindow};
pub use run::{Mirror, examine, status};
