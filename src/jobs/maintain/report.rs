//! The report of a maintenance run.

use serde::{Deserialize, Serialize};

use crate::jobs::resample::report::DateSpan;

/// The outcome of a maintenance run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintainOutcome {
    /// The run changed the lake.
    Maintained,
    /// There was nothing to do.
    NothingToDo,
    /// No run was ever published, so there is nothing to maintain.
    NothingPublished,
    /// A dry run: nothing was changed.
    DryRun,
}

/// The action on expired data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryOutcome {
    /// It is moved to the archive.
    Archived,
    /// It is deleted.
    Deleted,
}

/// The expired data of a table or of the raw files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredData {
    /// The name of the table, or `raw`.
    pub what: String,
    /// The action on the data.
    pub fate: ExpiryOutcome,
    /// The dates of the partitions, or of the raw files.
    pub dates: DateSpan,
    /// The number of files.
    pub files: usize,
    /// The number of rows or readings.
    pub rows: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
}

/// The small files of a table that were merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionReport {
    /// The name of the table.
    pub table: String,
    /// The number of partitions.
    pub partitions: usize,
    /// The number of files before the merge.
    pub files_before: usize,
    /// The number of files after the merge.
    pub files_after: usize,
    /// The number of rows in the files.
    pub rows: u64,
    /// The size in bytes before the merge.
    pub bytes_before: u64,
    /// The size in bytes after the merge; `None` for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_after: Option<u64>,
}

/// The files that were deleted because they are no longer needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// The number of data files that no version in use references.
    pub data_files: usize,
    /// The number of raw files that expired longer ago than the grace period, and of archived copies that are no longer
    /// needed.
    pub raw_files: usize,
    /// The size of the data files and raw files in bytes.
    pub bytes: u64,
    /// The number of Delta log files.
    pub log_files: usize,
    /// The number of checkpoints that were written.
    pub checkpoints: usize,
}

/// The report of a maintenance run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaintainReport {
    /// The number of the run; `None` if it published nothing.
    pub run: Option<u64>,
    /// The outcome of the run.
    pub outcome: MaintainOutcome,
    /// The start of the run, RFC 3339.
    pub started_at: String,
    /// The data that expired.
    pub expired: Vec<ExpiredData>,
    /// The files that were merged.
    pub compacted: Vec<CompactionReport>,
    /// The files that were deleted because they are no longer needed.
    pub swept: SweepReport,
    /// Messages for the operator.
    pub notes: Vec<String>,
    /// The duration in seconds.
    pub seconds: f64,
}

impl MaintainReport {
    /// Whether the run changed anything, or as a dry run would have.
    pub fn has_work(&self) -> bool {
        !self.expired.is_empty()
            || !self.compacted.is_empty()
            || self.swept != SweepReport::default()
    }
}
