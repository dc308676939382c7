//! Batch jobs: their specifications, their plans, and their execution.

mod cells;
mod compute;
mod inputs;
mod lag;
mod ledger;
mod maintain;
pub mod plan;
mod report;
mod resample;
mod rollup_files;
pub mod spec;
mod status;
mod survey;

pub use lag::LagMonitor;
pub use maintain::{
    ArchiveContents, ArchivedData, CompactionReport, ExpiredData, ExpiryOutcome, HeldDates,
    MaintainOptions, MaintainOutcome, MaintainReport, NotRestored, NotRestoredReason,
    RestoreOutcome, RestoreReport, RestoreRequest, SweepReport,
};
pub use report::{
    DateSpan, FileCounts, LeftOutOfFile, Outcome, QuarantinedFile, ReadingCounts, Report,
};
pub use resample::{Job, JobError, Options, Progress};
pub use status::{RawStatus, Status, TableStatus, status};
