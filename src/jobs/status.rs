//! What is known of a lake without changing it: raw files, published tables, last runs.

use serde::Serialize;

use super::ledger::Ledger;
use super::plan::compare;
use super::report::{Quarantined, Report};
use super::resample::JobError;
use crate::lake::Store;
use crate::lake::raw::list;
use crate::lake::runs::Runs;
use crate::lake::table::Table;
use crate::model::Resolution;

/// A lake at a glance.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Raw files against what the last published run knew.
    pub raw: RawStatus,
    /// The published tables; none before the first run.
    pub tables: Vec<TableStatus>,
    /// The last runs, newest first.
    pub runs: Vec<Report>,
}

/// Raw files against what the last published run knew.
#[derive(Debug, Serialize)]
pub struct RawStatus {
    /// Taken up.
    pub known: usize,
    /// Not seen by a run yet.
    pub new: usize,
    /// Different now.
    pub changed: usize,
    /// Gone.
    pub removed: usize,
    /// In quarantine.
    pub quarantined: Vec<Quarantined>,
}

/// One published table.
#[derive(Debug, Serialize)]
pub struct TableStatus {
    /// Its name.
    pub table: String,
    /// The published version.
    pub version: u64,
    /// Rows.
    pub rows: u64,
    /// Data files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// The earliest bucket, RFC 3339.
    pub first: Option<String>,
    /// The latest bucket.
    pub last: Option<String>,
}

/// Looks at a lake.
pub async fn status(lake: &Store, raw: &Store, last_runs: usize) -> Result<Status, JobError> {
    let runs = Runs::open(lake);
    let published = runs.latest_publication().await?;
    let ledger: Ledger = match &published {
        Some(publication) => runs.read_ledger(publication.run).await?,
        None => Ledger::default(),
    };
    let changes = compare(&ledger, &list(raw).await?, false);
    let mut tables = Vec::new();
    if let Some(publication) = &published {
        for resolution in Resolution::ALL {
            let version = publication.versions.of(resolution);
            let table = Table::open_at(lake, resolution, version);
            let table = table.await.map_err(|source| JobError::Table {
                table: resolution.table(),
                source: Box::new(source),
            })?;
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
                    .map(text),
                last: files
                    .iter()
                    .filter_map(|file| file.max_time)
                    .max()
                    .map(text),
            });
        }
    }
    Ok(Status {
        raw: RawStatus {
            known: ledger.files.len(),
            new: changes.new,
            changed: changes.fresh.len() - changes.new,
            removed: changes.removed.len(),
            quarantined: Report::quarantine_of(&ledger),
        },
        tables,
        runs: runs.records(last_runs).await?,
    })
}

fn text(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(String::new, |time| {
        time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    })
}
