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

pub use lag::LagWatch;
pub use maintain::{
    ArchiveContents, Compacted, Expired, Fate, HeldDates, InArchive, Left, LeftInArchive,
    MaintainOptions, MaintainOutcome, MaintainReport, Restore, RestoreOutcome, RestoreReport,
    Swept,
};
pub use report::{
    DateSpan, FileCounts, LeftOutOfFile, Outcome, Quarantined, ReadingCounts, Report,
};
pub use resample::{Job, JobError, Options, Progress};
pub use status::{RawStatus, Status, TableStatus, status};
