//! Batch jobs: their specifications, their plans, and their execution.

mod attempt;
mod cells;
mod compute;
mod error;
#[cfg(test)]
mod evolution_tests;
mod inputs;
mod job;
mod lag;
mod ledger;
mod maintain;
pub mod plan;
mod publish;
mod report;
mod rollup_files;
mod run;
pub mod spec;
mod status;
mod survey;

pub use error::JobError;
pub use job::{Job, Options, Progress};
pub use lag::LagMonitor;
pub use maintain::{
    ArchiveContents, ArchivedData, CompactionReport, ExpiredData, ExpiryOutcome, HeldDates,
    MaintainOptions, MaintainOutcome, MaintainReport, NotRestored, NotRestoredReason,
    RestoreOutcome, RestoreReport, RestoreRequest, SweepReport,
};
pub use report::{
    DateSpan, FileCounts, LeftOutOfFile, Outcome, QuarantinedFile, ReadingCounts, Report,
};
pub use status::{RawStatus, Status, TableStatus, status};
