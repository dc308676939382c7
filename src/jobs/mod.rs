//! Batch jobs: their specifications, their plans, and their execution.

mod error;
mod lag;
mod maintain;
pub mod resample;
pub mod spec;
mod status;

pub use error::JobError;
pub use lag::LagMonitor;
pub use maintain::{
    ArchiveContents, ArchivedData, CompactionReport, ExpiredData, ExpiryOutcome, HeldDates,
    MaintainOptions, MaintainOutcome, MaintainReport, NotRestored, NotRestoredReason,
    RestoreOutcome, RestoreReport, RestoreRequest, SweepReport,
};
pub use resample::job::{Job, Options, Progress};
pub use resample::report::{
    DateSpan, FileCounts, LeftOutOfFile, Outcome, QuarantinedFile, ReadingCounts, Report,
};
pub use status::{RawStatus, Status, TableStatus, status};
