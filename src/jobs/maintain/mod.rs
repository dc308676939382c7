//! The maintenance of a lake: expired data is archived or deleted, small files are merged, and files that are no longer
//! needed are deleted.
//!
//! 1. Take the lease of the resample job; read the latest publication.
//! 2. Write the intent of the run. It has no dates, because no row is computed.
//! 3. Copy expired raw files to the archive; write the new files of the tables and of the archive.
//! 4. Commit each table once with the run's number, the tables of the archive first.
//! 5. Write the ledger, and publish all versions together.
//! 6. Delete files that no version in use references, and raw files that expired longer ago than the grace period.
//!
//! The next run's commits undo a run that crashes before it publishes ([`Table::open_for_change`]). After a later
//! crash, the next maintenance run completes step 6. A restore from the archive (`restore`) follows the same steps up
//! to step 5.
//!
//! [`Table::open_for_change`]: crate::lake::delta::table::Table::open_for_change

mod compact;
mod contents;
mod job;
mod maintenance_run;
mod merge;
mod options;
mod raw;
mod report;
mod restore;
mod retention;
mod sweep;
mod tables;
mod time;

pub use contents::{ArchiveContents, ArchivedData, HeldDates};
pub use options::MaintainOptions;
pub use report::{
    CompactionReport, ExpiredData, ExpiryOutcome, MaintainOutcome, MaintainReport, SweepReport,
};
pub use restore::{NotRestored, NotRestoredReason, RestoreOutcome, RestoreReport, RestoreRequest};
