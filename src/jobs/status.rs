//! Reads the status of a lake without changing it: raw files, published tables, and last runs.

use serde::Serialize;

use super::error::{JobError, table_error};
use super::resample::ledger::Ledger;
use super::resample::plan::compare;
use super::resample::report::{QuarantinedFile, Report};
use crate::lake::Store;
use crate::lake::delta::error::TableError;
use crate::lake::delta::table::Table;
use crate::lake::delta::table_columns::current_schema;
use crate::lake::raw::{check_known_files, list_raw_folder};
use crate::lake::records::runs::Runs;
use crate::model::Resolution;

/// The status of a lake.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The last published run, of the resample job or of maintenance.
    #[serde(skip)]
    pub published_run: Option<u64>,
    /// The raw files compared with the ledger of the last published run.
    pub raw: RawStatus,
    /// The published tables; empty before the first run.
    pub tables: Vec<TableStatus>,
    /// The reports of the last runs, newest first.
    pub runs: Vec<Report>,
}

/// Raw files compared with the ledger of the last published run.
#[derive(Debug, Serialize)]
pub struct RawStatus {
    /// The number of files that were processed.
    pub known: usize,
    /// The number of files that no run has seen.
    pub new: usize,
    /// The number of files that have changed.
    pub changed: usize,
    /// The number of files that no longer exist.
    pub removed: usize,
    /// The files in quarantine.
    pub quarantined: Vec<QuarantinedFile>,
    /// The number of files that are passed over, because they are no raw files.
    pub passed_over: usize,
    /// The first 100 of them, with the reasons.
    pub passed_over_files: Vec<QuarantinedFile>,
}

/// The status of one published table.
#[derive(Debug, Serialize)]
pub struct TableStatus {
    /// The name of the table.
    pub table: String,
    /// The published version.
    pub version: u64,
    /// The number of rows.
    pub rows: u64,
    /// The number of data files.
    pub files: usize,
    /// The size of the data files in bytes.
    pub bytes: u64,
    /// The start of the earliest bucket, RFC 3339.
    pub first: Option<String>,
    /// The start of the latest bucket, RFC 3339.
    pub last: Option<String>,
}

/// Reads the status of a lake, with the reports of its last `last_runs` runs.
pub async fn status(lake: &Store, raw: &Store, last_runs: usize) -> Result<Status, JobError> {
    let runs = Runs::open(lake);
    let published = runs.latest_publication().await?;
    let ledger: Ledger = match &published {
        Some(publication) => runs.read_ledger(publication.run).await?,
        None => Ledger::default(),
    };
    let listing = list_raw_folder(raw).await?;
    check_known_files(raw, &listing.files, ledger.readable_paths())?;
    let changes = compare(&ledger, &listing.files, false);
    let passed_over = Report::passed_over_files(&ledger, listing.passed_over);
    let removed = changes.removed.iter();
    let removed = removed.filter(|path| !ledger.is_passed_over(path)).count();
    let known = ledger.files.values();
    let known = known.filter(|file| !file.is_passed_over).count();
    let mut tables = Vec::new();
    if let Some(publication) = &published {
        for resolution in Resolution::ALL {
            let version = publication.versions.get(resolution);
            let failed = table_error(resolution);
            let found = Table::has_version(lake, resolution, version).await;
            if !found.map_err(&failed)? {
                let table = resolution.table();
                return Err(failed(TableError::Lost { table, version }));
            }
            let table = Table::open_at(lake, current_schema(), resolution, version);
            let table = table.await.map_err(&failed)?;
            let files = table.files();
            tables.push(TableStatus {
                table: resolution.table().to_owned(),
                version,
                rows: files.iter().filter_map(|file| file.rows).sum(),
                files: files.len(),
                bytes: files.iter().map(|file| file.size).sum(),
                first: files
                    .iter()
                    .filter_map(|file| file.min_time)
                    .min()
                    .map(format_time),
                last: files
                    .iter()
                    .filter_map(|file| file.max_time)
                    .max()
                    .map(format_time),
            });
        }
    }
    Ok(Status {
        published_run: published.map(|publication| publication.run),
        raw: RawStatus {
            known,
            new: changes.new,
            changed: changes.fresh.len() - changes.new,
            removed,
            quarantined: Report::quarantined_files(&ledger),
            passed_over: passed_over.files,
            passed_over_files: Report::named_files(passed_over),
        },
        tables,
        runs: runs.records(last_runs).await?,
    })
}

fn format_time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(String::new, |time| {
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    })
}
