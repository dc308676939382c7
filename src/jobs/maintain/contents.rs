//! What is in the archive.

use serde::{Deserialize, Serialize};

use super::super::ledger::Ledger;
use super::super::report::DateSpan;
use super::super::resample::{Job, JobError, table_failed};
use super::round::archive_of_tables;
use super::tables::days_of;
use crate::lake::runs::Runs;
use crate::lake::table::Table;
use crate::model::{DateSet, Resolution};

/// What is in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArchiveContents {
    /// Of each table, and of the raw files; those of which it has something.
    pub archived: Vec<InArchive>,
    /// Dates whose raw files were deleted.
    pub sealed: DateSpan,
    /// What came back and is left where it is for a while.
    pub held: Vec<HeldDates>,
}

/// What the archive has of a table, or of the raw files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InArchive {
    /// The table, or `raw`.
    pub what: String,
    /// The dates of its partitions or files.
    pub dates: DateSpan,
    /// The same as text, with their gaps.
    pub ranges: String,
    /// Files.
    pub files: usize,
    /// Rows or readings.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Raw files by the paths that they had, with their dates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw_files: Vec<(String, String)>,
}

/// Dates that the upkeep leaves where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDates {
    /// The table, or `raw`.
    pub what: String,
    /// The dates.
    pub dates: String,
    /// Until when, RFC 3339.
    pub until: String,
}

impl Job {
    /// What of these dates is in the archive, as it is published.
    pub async fn archive_contents(&self, dates: &DateSet) -> Result<ArchiveContents, JobError> {
        let runs = Runs::open(&self.lake);
        let mut contents = ArchiveContents::default();
        let Some(published) = runs.latest_publication().await? else {
            return Ok(contents);
        };
        let ledger: Ledger = runs.read_ledger(published.run).await?;
        let archive = archive_of_tables(&self.lake);
        for resolution in Resolution::ALL {
            let Some(versions) = published.archive else {
                continue;
            };
            let table = Table::open_at(&archive, resolution, versions.of(resolution)).await;
            let mut files = table.map_err(table_failed(resolution))?.files();
            files.retain(|file| {
                let days = file.partition.days();
                days.is_some_and(|(first, last)| DateSet::range(first, last).intersects(dates))
            });
            let days = days_of(files.iter().map(|file| &file.partition));
            contents.archived.push(InArchive {
                what: resolution.table().to_owned(),
                dates: DateSpan::from(&days),
                ranges: days.to_string(),
                files: files.len(),
                rows: files.iter().filter_map(|file| file.rows).sum(),
                bytes: files.iter().map(|file| file.size).sum(),
                raw_files: Vec::new(),
            });
        }
        let raw = ledger.archived.values();
        let raw: Vec<_> = raw
            .filter(|archived| archived.file.dates.intersects(dates))
            .collect();
        let mut days = DateSet::default();
        raw.iter()
            .for_each(|archived| days.extend(&archived.file.dates));
        contents.archived.push(InArchive {
            what: "raw".to_owned(),
            dates: DateSpan::from(&days),
            ranges: days.to_string(),
            files: raw.len(),
            rows: raw.iter().map(|archived| archived.file.rows).sum(),
            bytes: raw.iter().map(|archived| archived.file.size).sum(),
            raw_files: raw
                .iter()
                .map(|archived| (archived.path.clone(), archived.file.dates.to_string()))
                .collect(),
        });
        contents.archived.retain(|it| it.files > 0);
        contents.sealed = DateSpan::from(&ledger.sealed.intersection(dates));
        let now = super::now();
        let holds = ledger.holds.iter().filter(|hold| hold.until > now);
        let holds = holds.filter(|hold| hold.dates.intersects(dates));
        contents.held = holds
            .map(|hold| HeldDates {
                what: hold.what.clone(),
                dates: hold.dates.to_string(),
                until: hold
                    .until
                    .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            })
            .collect();
        Ok(contents)
    }
}
