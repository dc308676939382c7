//! What a run says about itself, in its record and on the terminal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::DateSet;
use crate::resample::LeftOut;

use super::inputs::Input;
use super::ledger::{KnownFile, Ledger};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The tables were brought up to date and published.
    Published,
    /// They were up to date.
    NothingToDo,
    /// Only said what it would do.
    DryRun,
}

/// Dates, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateSpan {
    /// How many.
    pub count: usize,
    /// The earliest, as YYYY-MM-DD.
    pub first: Option<String>,
    /// The latest.
    pub last: Option<String>,
}

impl From<&DateSet> for DateSpan {
    fn from(dates: &DateSet) -> Self {
        let text = |day: Option<crate::model::Day>| {
            day.map(|day| crate::model::day_to_date(day).to_string())
        };
        Self {
            count: dates.len(),
            first: text(dates.first()),
            last: text(dates.last()),
        }
    }
}

/// Raw files, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// Known after the run.
    pub known: usize,
    /// Seen for the first time.
    pub new: usize,
    /// Seen before, and different now.
    pub changed: usize,
    /// Gone.
    pub removed: usize,
    /// In quarantine after the run.
    pub quarantined: usize,
}

/// Readings, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingCounts {
    /// Valid readings on the computed dates, and those left out.
    pub read: u64,
    /// Readings in the averages: each time of an asset once.
    pub used: u64,
    /// Left out, by reason.
    pub left_out: LeftOut,
    /// Valid ones that a later file or row replaced.
    pub superseded: u64,
}

/// A file in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Below the raw folder.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What was left out of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutOfFile {
    /// Below the raw folder.
    pub path: String,
    /// How many, by reason.
    pub reasons: LeftOut,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run's number; none if it published nothing.
    pub run: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// Whether everything was computed again.
    pub full: bool,
    /// The dates that were computed, or would be.
    pub dates: DateSpan,
    /// Raw files.
    pub files: FileCounts,
    /// Readings.
    pub readings: ReadingCounts,
    /// Rows computed for each table.
    pub rows: BTreeMap<String, u64>,
    /// How long it took.
    pub seconds: f64,
    /// Files in quarantine after the run.
    pub quarantined: Vec<Quarantined>,
    /// What was left out of the files that this run took up.
    pub left_out: Vec<LeftOutOfFile>,
    /// For a dry run: the files that would be taken up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_read: Vec<String>,
    /// For a dry run: readings that would be read, estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_readings: Option<u64>,
}

impl Report {
    /// The files in quarantine, as a ledger has them; and those of which some dates are, because they were sealed before.
    pub fn quarantine_of(ledger: &Ledger) -> Vec<Quarantined> {
        let files = ledger.files.iter();
        let partly = |path: &str, file: &KnownFile| {
            let late = (!file.late.is_empty()).then_some(&file.late)?;
            Some(format!(
                "{path}: what it has of {late} is left out, because these dates are sealed: their raw files have expired and \
                 were deleted"
            ))
        };
        let raw = files.map(|(path, file)| {
            let reason = file.quarantined.clone().or_else(|| partly(path, file));
            (path.clone(), reason)
        });
        let archived = ledger.archived.iter().map(|(name, archived)| {
            let path = format!("archive/raw/{name}");
            (path, archived.file.quarantined.clone())
        });
        let quarantined = raw.chain(archived).filter_map(|(path, reason)| {
            let reason = reason?;
            Some(Quarantined { path, reason })
        });
        quarantined.collect()
    }

    /// What a dry run says about the files that it would take up.
    pub(super) fn would_read(fresh: &[Input]) -> Vec<String> {
        let keys = fresh.iter().map(|input| Ledger::told(&input.key));
        keys.collect()
    }
}
