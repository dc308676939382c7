//! The report of a run, for its record and for the terminal.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::lake::raw::PassedOver;
use crate::model::DateSet;
use crate::rollup::LeftOut;

use super::inputs::Input;
use super::ledger::{KnownFile, Ledger};

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The tables were updated and published.
    Published,
    /// The tables were up to date.
    NothingToDo,
    /// A dry run: nothing was changed.
    DryRun,
}

/// A summary of dates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateSpan {
    /// The number of dates.
    pub count: usize,
    /// The earliest date, YYYY-MM-DD.
    pub first: Option<String>,
    /// The latest date, YYYY-MM-DD.
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

/// Numbers of raw files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// Files known after the run.
    pub known: usize,
    /// Files seen for the first time.
    pub new: usize,
    /// Known files that have changed.
    pub changed: usize,
    /// Known files that no longer exist.
    pub removed: usize,
    /// Files in quarantine after the run.
    pub quarantined: usize,
    /// Files that were passed over, because they are no raw files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed_over: usize,
}

/// Numbers of readings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingCounts {
    /// Valid readings on the computed dates, and readings that were left out.
    pub read: u64,
    /// Readings in the averages. Each time of an asset counts once.
    pub used: u64,
    /// Readings that were left out, by reason.
    pub left_out: LeftOut,
    /// Valid readings that a later file or row replaced.
    pub superseded: u64,
}

/// A file in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedFile {
    /// The path relative to the raw folder.
    pub path: String,
    /// The reason.
    pub reason: String,
}

/// The readings of one file that were left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutOfFile {
    /// The path relative to the raw folder.
    pub path: String,
    /// The number of readings by reason.
    pub reasons: LeftOut,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The number of the run; `None` if it published nothing.
    pub run: Option<u64>,
    /// The outcome of the run.
    pub outcome: Outcome,
    /// The start of the run, RFC 3339.
    pub started_at: String,
    /// Whether all dates were computed again.
    pub full: bool,
    /// The dates that were computed; for a dry run, those that would be computed.
    pub dates: DateSpan,
    /// Numbers of raw files.
    pub files: FileCounts,
    /// Numbers of readings.
    pub readings: ReadingCounts,
    /// The number of computed rows by table.
    pub rows: BTreeMap<String, u64>,
    /// The duration in seconds.
    pub seconds: f64,
    /// Files in quarantine after the run.
    pub quarantined: Vec<QuarantinedFile>,
    /// The first 100 files that were passed over, with the reasons; `files.passed_over` is their number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<QuarantinedFile>,
    /// The readings that were left out of the files of this run.
    pub left_out: Vec<LeftOutOfFile>,
    /// The files that would be read. Dry runs only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_read: Vec<String>,
    /// The estimated number of readings that would be read. Dry runs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_readings: Option<u64>,
}

impl Report {
    /// Creates the report of a run that has changed nothing yet.
    pub(in crate::jobs) fn new(
        started_at: DateTime<Utc>,
        full: bool,
        dates: &DateSet,
        files: FileCounts,
    ) -> Self {
        Self {
            run: None,
            outcome: Outcome::NothingToDo,
            started_at: started_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            full,
            dates: DateSpan::from(dates),
            files,
            readings: ReadingCounts::default(),
            rows: BTreeMap::new(),
            seconds: 0.0,
            quarantined: Vec::new(),
            passed_over: Vec::new(),
            left_out: Vec::new(),
            would_read: Vec::new(),
            estimated_readings: None,
        }
    }

    /// Sets the files in quarantine and their number from a ledger.
    pub(in crate::jobs) fn set_quarantined(&mut self, ledger: &Ledger) {
        self.quarantined = Self::quarantined_files(ledger);
        self.files.quarantined = self.quarantined.len();
    }

    /// Sets the files that were passed over and their number from a ledger and a listing.
    pub(in crate::jobs) fn set_passed_over(&mut self, ledger: &Ledger, listed: PassedOver) {
        let passed_over = Self::passed_over_files(ledger, listed);
        self.files.passed_over = passed_over.files;
        self.passed_over = Self::named_files(passed_over);
    }

    /// Returns the files that are passed over according to a ledger and a listing.
    pub fn passed_over_files(ledger: &Ledger, mut listed: PassedOver) -> PassedOver {
        let known = ledger.files.iter().filter(|(_, file)| file.is_passed_over);
        for (path, file) in known {
            listed.add(path.clone(), file.quarantined.clone().unwrap_or_default());
        }
        listed
    }

    /// Returns the named files among those that were passed over.
    pub fn named_files(passed_over: PassedOver) -> Vec<QuarantinedFile> {
        let named = passed_over.named.into_iter();
        named
            .map(|(path, reason)| QuarantinedFile { path, reason })
            .collect()
    }

    /// Returns the files in quarantine according to a ledger, and the files with sealed dates whose readings are left
    /// out.
    pub fn quarantined_files(ledger: &Ledger) -> Vec<QuarantinedFile> {
        let files = ledger.files.iter();
        let partly = |path: &str, file: &KnownFile| {
            let late = (!file.late.is_empty()).then_some(&file.late)?;
            Some(format!(
                "{path}: readings on {late} are left out, because these dates are sealed: their raw files have expired and \
                 were deleted"
            ))
        };
        let files = files.filter(|(_, file)| !file.is_passed_over);
        let raw = files.map(|(path, file)| {
            let reason = file.quarantined.clone().or_else(|| partly(path, file));
            (path.clone(), reason)
        });
        let archived = ledger.archived.iter().map(|(name, archived)| {
            let path = format!("archive/raw/{name}");
            (path, archived.file.quarantined.clone())
        });
        let quarantined = raw.chain(archived).filter_map(|(path, reason)| {
            // The terminal shows reasons only.
            let reason = reason.map(|text| match text.contains(&path) {
                true => text,
                false => format!("{path}: {text}"),
            })?;
            Some(QuarantinedFile { path, reason })
        });
        quarantined.collect()
    }

    /// Returns the paths of the files that a dry run would read.
    pub(in crate::jobs) fn paths_to_read(fresh: &[Input]) -> Vec<String> {
        let keys = fresh.iter().map(|input| Ledger::display_path(&input.key));
        keys.collect()
    }
}
