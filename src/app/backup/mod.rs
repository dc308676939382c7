//! Backs up the data that cannot be recomputed to one file, and restores it. Each part is read and written by the
//! module that owns it.

mod check;
mod database;
mod failure;
mod folders;
mod history;
mod report;
mod restore;
mod table_files;
mod write;

pub use check::check;
pub use failure::BackupFailure;
pub use report::{BackupReport, PartReport};
pub use restore::{RestoreOutcome, RestoreReport, restore};
pub use write::back_up;
