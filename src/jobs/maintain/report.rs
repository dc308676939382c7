//! What a run of the upkeep says about itself.

use serde::{Deserialize, Serialize};

use super::super::report::DateSpan;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintainOutcome {
    /// Something was done.
    Maintained,
    /// All was in order.
    NothingToDo,
    /// No run was ever published: there is nothing to keep in order.
    NothingPublished,
    /// Only said what it would do.
    DryRun,
}

/// What becomes of something that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It goes to the archive.
    Archived,
    /// It goes for good.
    Deleted,
}

/// What has expired of a table or of the raw files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// The table, or `raw`.
    pub what: String,
    /// What becomes of it.
    pub fate: Fate,
    /// The dates of the partitions, or of the raw files.
    pub dates: DateSpan,
    /// Files.
    pub files: usize,
    /// Rows or readings in them.
    pub rows: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Small files of a table that became fewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// The table.
    pub table: String,
    /// Partitions.
    pub partitions: usize,
    /// Small files that there were.
    pub files_before: usize,
    /// Files that came of them.
    pub files_after: usize,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of the files that there were.
    pub bytes_before: u64,
    /// Bytes of those that came of them; none for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_after: Option<u64>,
}

/// Files that nobody needs any more, and that were deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Data files that no version in use names.
    pub data_files: usize,
    /// Raw files that expired longer ago than the grace, and copies of such that came back.
    pub raw_files: usize,
    /// The bytes of both.
    pub bytes: u64,
    /// Files of Delta logs.
    pub log_files: usize,
    /// Checkpoints that were written.
    pub checkpoints: usize,
}

/// One run of the upkeep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaintainReport {
    /// Its number; none if it published nothing.
    pub run: Option<u64>,
    /// How it ended.
    pub outcome: MaintainOutcome,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What has expired.
    pub expired: Vec<Expired>,
    /// Small files that became fewer.
    pub compacted: Vec<Compacted>,
    /// What was deleted because nobody needs it.
    pub swept: Swept,
    /// What somebody should know.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl MaintainReport {
    /// Whether anything was done, or would be.
    pub fn has_work(&self) -> bool {
        !self.expired.is_empty() || !self.compacted.is_empty() || self.swept != Swept::default()
    }
}
