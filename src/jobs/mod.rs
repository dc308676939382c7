//! Batch jobs: what an operator declares, what a run will do, and the doing of it.

mod cells;
mod compute;
mod lag;
mod maintain;
pub mod plan;
mod report;
mod resample;
mod rollup_files;
pub mod spec;
mod status;

pub use lag::LagWatch;
pub use maintain::{Compacted, MaintainOptions, MaintainOutcome, MaintainReport, Swept};
pub use report::{
    DateSpan, FileCounts, LeftOutOfFile, Outcome, Quarantined, ReadingCounts, Report,
};
pub use resample::{Job, JobError, Options, Progress};
pub use status::{RawStatus, Status, TableStatus, status};
