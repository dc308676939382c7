//! Lists the contents of the archive.

use serde::{Deserialize, Serialize};

use super::maintenance_run::table_archive;
use super::tables::partition_dates;
use super::time::now;
use crate::jobs::error::{JobError, table_error};
use crate::jobs::resample::job::Job;
use crate::jobs::resample::ledger::Ledger;
use crate::jobs::resample::report::DateSpan;
use crate::lake::delta::table::Table;
use crate::lake::records::runs::Runs;
use crate::model::{DateSet, Resolution};

/// The contents of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArchiveContents {
    /// The contents by table, and those of the raw files. Tables without archived files are omitted.
    pub archived: Vec<ArchivedData>,
    /// The dates whose raw files were deleted.
    pub sealed: DateSpan,
    /// The restored dates that do not expire for a while.
    pub held: Vec<HeldDates>,
}

/// The archived files of a table, or the archived raw files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedData {
    /// The name of the table, or `raw`.
    pub what: String,
    /// The dates of the partitions or files.
    pub dates: DateSpan,
    /// The dates as text, with their gaps.
    pub ranges: String,
    /// The number of files.
    pub files: usize,
    /// The number of rows or readings.
    pub rows: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// The former paths of the raw files, with their dates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw_files: Vec<(String, String)>,
}

/// Dates that maintenance does not expire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDates {
    /// The name of the table, or `raw`.
    pub what: String,
    /// The dates.
    pub dates: String,
    /// The end of the hold, RFC 3339.
    pub until: String,
}

impl Job {
    /// Returns the published contents of the archive on `dates`.
    pub async fn archive_contents(&self, dates: &DateSet) -> Result<ArchiveContents, JobError> {
        let runs = Runs::open(&self.lake);
        let mut contents = ArchiveContents::default();
        let Some(published) = runs.latest_publication().await? else {
            return Ok(contents);
        };
        let ledger: Ledger = runs.read_ledger(published.run).await?;
        let archive = table_archive(&self.lake);
        for resolution in Resolution::ALL {
            let Some(versions) = published.archive else {
                continue;
            };
            let version = versions.get(resolution);
            let table = Table::open_at(&archive, &self.schema, resolution, version).await;
            let mut files = table.map_err(table_error(resolution))?.files();
            files.retain(|file| {
                let days = file.partition.days();
                days.is_some_and(|(first, last)| DateSet::range(first, last).intersects(dates))
            });
            let days = partition_dates(files.iter().map(|file| &file.partition));
            contents.archived.push(ArchivedData {
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
        contents.archived.push(ArchivedData {
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
        let now = now();
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
