//! The three Delta tables: their schemas, and their files at a version.

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Datelike, NaiveDate};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::Store;
pub use super::commit::Change;
pub use super::data_file::{FileWriter, MAX_ROWS_PER_PAGE, WrittenFile};
pub use super::data_file_reader::FileRows;
use super::table_columns::{TableColumns, delta_fields};
pub use super::table_columns::{conform_rows, current_schema, merged_file_schema};
use crate::model::{Day, Resolution, day_from_date, day_to_date};
use crate::rollup_schema::{ASSET_COLUMN, RollupSchema, TIME_COLUMN};

/// The application id of the resample job's transactions in the Delta logs.
pub(super) const APPLICATION_ID: &str = "resample";

/// The remedy for tables that cannot be used: rebuild them.
const REBUILD_REMEDY: &str = "If no raw file has expired (`plantlake archive list` shows nothing), rebuild the tables: stop the \
    servers of the lake, remove its folders data_min, data_h, data_d, published and runs, and run `plantlake resample`. \
    Otherwise restore the lake's folder from a copy";

/// The reasons why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The Delta log or a data file cannot be read or written.
    #[error("cannot {action} the Delta table {table}{}", remedy(action))]
    Delta {
        /// The name of the table.
        table: &'static str,
        /// The attempted action, as a verb.
        action: &'static str,
        /// The Delta library's error.
        source: Box<DeltaTableError>,
    },
    /// A data file cannot be read or written.
    #[error("cannot read or write the data file {path}")]
    Parquet {
        /// The path relative to the table's folder.
        path: String,
        /// The Parquet library's error.
        source: parquet::errors::ParquetError,
    },
    /// A data file cannot be stored.
    #[error("cannot store the data file {path}")]
    Store {
        /// The path relative to the table's folder.
        path: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// The table uses a Delta feature that plantlake's readers do not support.
    #[error(
        "{table} uses {feature}, which plantlake does not support: it was changed by another program. {REBUILD_REMEDY}"
    )]
    Unsupported {
        /// The name of the table.
        table: &'static str,
        /// The name of the feature.
        feature: String,
    },
    /// The table does not have the columns that plantlake writes.
    #[error(
        "{table} {problem}: it was created by another version of plantlake, or changed by another program. {REBUILD_REMEDY}"
    )]
    UnexpectedColumns {
        /// The name of the table.
        table: &'static str,
        /// The column that is missing or has another type.
        problem: String,
    },
    /// A table has a column that plantlake does not know and that must not be null.
    #[error(
        "cannot add rows to {table}: its column {column} must not be null, and this version of plantlake does not know it. \
         Use a later version, or make the column nullable"
    )]
    RequiredColumn {
        /// The name of the table.
        table: &'static str,
        /// The name of the column.
        column: String,
    },
    /// A table and its archive have a column that plantlake does not know, with different types.
    #[error(
        "cannot move rows between {table} and its archive: the column {column} has the type {found} in one and {other} in \
         the other. Give both the same type"
    )]
    ConflictingColumn {
        /// The name of the table.
        table: &'static str,
        /// The name of the column.
        column: String,
        /// The type in the table that gets the rows.
        found: String,
        /// The type in the table that has the rows.
        other: String,
    },
    /// A data file lacks an original column.
    #[error(
        "the data file {path} has no column {column}: another program wrote it. {REBUILD_REMEDY}"
    )]
    MissingColumn {
        /// The path relative to the table's folder.
        path: String,
        /// The name of the column.
        column: &'static str,
    },
    /// A later run has already committed.
    #[error("run {run} was superseded: {table} already has run {applied}")]
    Superseded {
        /// The name of the table.
        table: &'static str,
        /// The number of this run.
        run: u64,
        /// The number of the last run that committed.
        applied: u64,
    },
}

/// Returns the remedy for a failed action on a table.
fn remedy(action: &str) -> &'static str {
    match action {
        "commit to" => "; another program may have written to it, so run again",
        _ => "",
    }
}

/// One table at one version.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) resolution: Resolution,
    pub(super) store: Store,
    pub(super) delta: DeltaTable,
    pub(super) applied: Option<u64>,
    /// The published version whose files are used, if it is not the open version.
    pub(super) base: Option<DeltaTable>,
    pub(super) schema: RollupSchema,
    pub(super) columns: TableColumns,
}

/// A partition's value as in its folder name: `2026-01-31`, `2026-01` or `2026`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub(super) String);

impl Partition {
    /// Returns the partition of a table that contains the date.
    pub fn containing(resolution: Resolution, day: Day) -> Self {
        let date = day_to_date(day);
        Self(match resolution {
            Resolution::Minute => date.format("%Y-%m-%d").to_string(),
            Resolution::Hour => date.format("%Y-%m").to_string(),
            Resolution::Day => date.year().to_string(),
        })
    }

    /// Returns the text of the value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first and the last date of the partition, or `None` if the text is not a valid value.
    pub fn days(&self) -> Option<(Day, Day)> {
        let numbers: Vec<i32> = self
            .0
            .split('-')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let date = |year, month: i32, day: i32| {
            NaiveDate::from_ymd_opt(year, month as u32, day as u32).map(day_from_date)
        };
        match numbers[..] {
            [year, month, day] => date(year, month, day).map(|day| (day, day)),
            [year, 12] => Some((date(year, 12, 1)?, date(year, 12, 31)?)),
            [year, month] => Some((date(year, month, 1)?, date(year, month + 1, 1)? - 1)),
            [year] => Some((date(year, 1, 1)?, date(year, 12, 31)?)),
            _ => None,
        }
    }
}

/// A data file of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// The path relative to the table's folder.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The number of rows, if the log has it.
    pub rows: Option<u64>,
    /// The partition of the file.
    pub partition: Partition,
    /// The lower bound of the times of its buckets, in microseconds.
    pub min_time: Option<i64>,
    /// The upper bound of the times of its buckets, in microseconds.
    pub max_time: Option<i64>,
    /// The minimum asset id.
    pub min_asset: Option<String>,
    /// The maximum asset id.
    pub max_asset: Option<String>,
}

impl Table {
    /// Opens the latest version of the table. Creates the table with the columns of `schema` if it does not exist.
    pub async fn open_or_create(
        lake: &Store,
        schema: &RollupSchema,
        resolution: Resolution,
    ) -> Result<Self, TableError> {
        let mut delta = DeltaTable::new(log_store(lake, resolution));
        let failed = delta_error(resolution, "open");
        if !delta.verify_deltatable_existence().await.map_err(&failed)? {
            let created = CreateBuilder::new()
                .with_log_store(delta.log_store())
                .with_table_name(resolution.table())
                .with_comment(format!("{resolution} averages, written by plantlake"))
                .with_columns(delta_fields(schema, resolution))
                .with_partition_columns([resolution.partition_column()])
                .await;
            match created {
                Ok(_) | Err(DeltaTableError::VersionAlreadyExists(_)) => {}
                // Another process may have created it first.
                Err(error) if !delta.verify_deltatable_existence().await.unwrap_or(false) => {
                    return Err(delta_error(resolution, "create")(error));
                }
                Err(_) => {}
            }
        }
        delta.load().await.map_err(&failed)?;
        Self::from_delta(lake, schema, resolution, delta).await
    }

    /// Opens the table for a change. Creates the table if it does not exist. If a run committed after the `published`
    /// version (`None` before the first publication) and was never published, the table has the files of the published
    /// version, and the next commit undoes that run. Changes that another program committed since are kept. The next commit
    /// also adds the columns of `schema` that the table lacks.
    pub async fn open_for_change(
        lake: &Store,
        schema: &RollupSchema,
        resolution: Resolution,
        published: Option<u64>,
    ) -> Result<Self, TableError> {
        let mut table = Self::open_or_create(lake, schema, resolution).await?;
        table.columns.check_insertable(resolution)?;
        // A table's first version has no files.
        let version = published.unwrap_or(0);
        if table.version() == version || table.applied.is_none() {
            return Ok(table);
        }
        let before = match Self::open_at(lake, schema, resolution, version).await {
            Ok(before) => before,
            // If the records of runs were lost, the log may not reach back to the first version.
            Err(_) if published.is_none() => return Ok(table),
            Err(error) => return Err(error),
        };
        if table.applied > before.applied {
            table.base = Some(before.delta);
        }
        Ok(table)
    }

    /// Opens the table at `version`. It may lack later columns of `schema`.
    pub async fn open_at(
        lake: &Store,
        schema: &RollupSchema,
        resolution: Resolution,
        version: u64,
    ) -> Result<Self, TableError> {
        let mut delta = DeltaTable::new(log_store(lake, resolution));
        delta
            .load_version(version)
            .await
            .map_err(delta_error(resolution, "open"))?;
        Self::from_delta(lake, schema, resolution, delta).await
    }

    async fn from_delta(
        lake: &Store,
        schema: &RollupSchema,
        resolution: Resolution,
        delta: DeltaTable,
    ) -> Result<Self, TableError> {
        let failed = delta_error(resolution, "open");
        let state = delta.snapshot().map_err(&failed)?;
        let unsupported = |feature: String| TableError::Unsupported {
            table: resolution.table(),
            feature,
        };
        if let Some(mode) = state
            .metadata()
            .configuration()
            .get("delta.columnMapping.mode")
            .filter(|mode| *mode != "none")
        {
            return Err(unsupported(format!("column mapping ({mode})")));
        }
        if let Some(file) = state
            .log_data()
            .iter()
            .find(|file| file.deletion_vector_descriptor().is_some())
        {
            return Err(unsupported(format!(
                "deletion vectors (of {})",
                file.path()
            )));
        }
        let columns = TableColumns::new(&state.schema(), schema, resolution)?;
        let applied = state
            .transaction_version(&*delta.log_store(), APPLICATION_ID)
            .await
            .map_err(&failed)?;
        let store = lake.child(resolution.table());
        Ok(Self {
            resolution,
            store,
            applied: applied.and_then(|run| run.try_into().ok()),
            delta,
            base: None,
            schema: schema.clone(),
            columns,
        })
    }

    /// Returns the resolution of the table.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Returns the columns that the table was opened with.
    pub fn schema(&self) -> &RollupSchema {
        &self.schema
    }

    /// Adds the columns of `source` that plantlake does not know, because rows of `source` are moved to this table. The
    /// next commit writes them.
    ///
    /// # Errors
    ///
    /// Both tables have such a column with different types.
    pub fn adopt_columns(&mut self, source: &Self) -> Result<(), TableError> {
        self.columns.adopt(&source.columns, self.resolution)
    }

    /// Returns the open version.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or(0)
    }

    /// Returns the last run that committed to the table.
    pub fn applied_run(&self) -> Option<u64> {
        self.applied
    }

    /// Returns the folder of the table.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the state whose files are used.
    pub(super) fn state(&self) -> Option<&DeltaTableState> {
        self.base.as_ref().unwrap_or(&self.delta).snapshot().ok()
    }

    /// Returns the data files, sorted by path.
    pub fn files(&self) -> Vec<DataFile> {
        let Some(state) = self.state() else {
            return Vec::new();
        };
        let mut files: Vec<DataFile> = state
            .log_data()
            .iter()
            .map(|file| {
                let stats: Value = file
                    .stats()
                    .and_then(|stats| serde_json::from_str(&stats).ok())
                    .unwrap_or_default();
                let text =
                    |kind: &str, column: &str| stats[kind][column].as_str().map(str::to_owned);
                let time = |kind: &str| {
                    let parsed =
                        DateTime::parse_from_rfc3339(stats[kind][TIME_COLUMN].as_str()?).ok()?;
                    Some(parsed.timestamp_micros())
                };
                let partition = file
                    .partition_values_map()
                    .remove(self.resolution.partition_column())
                    .flatten();
                DataFile {
                    path: file.path().into_owned(),
                    size: file.size().try_into().unwrap_or(0),
                    rows: stats["numRecords"].as_u64(),
                    partition: Partition(partition.unwrap_or_default()),
                    min_time: time("minValues"),
                    // Statistics are truncated to milliseconds, so the last time may be up to 999 µs later.
                    max_time: time("maxValues").map(|time| time + 999),
                    min_asset: text("minValues", ASSET_COLUMN),
                    max_asset: text("maxValues", ASSET_COLUMN),
                }
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Returns a writer of one new file with the declared columns. The file is not part of the table before it is
    /// committed.
    pub fn writer(&self, partition: Partition) -> FileWriter {
        let schema = SchemaRef::clone(self.schema.file_schema());
        self.writer_with_schema(partition, schema)
    }

    /// Returns a writer of one new file with the columns of `schema`, which begin with the declared ones.
    pub fn writer_with_schema(&self, partition: Partition, schema: SchemaRef) -> FileWriter {
        let declared = self.schema.clone();
        FileWriter::new(&self.store, self.resolution, partition, declared, schema)
    }

    /// Deletes files that will not be committed. A file that cannot be deleted remains as an orphan that no version
    /// references.
    pub async fn delete_uncommitted(&self, files: &[WrittenFile]) {
        let objects = self.store.objects();
        for file in files {
            let _ = objects.delete(&Path::from(file.path.as_str())).await;
        }
    }
}

pub(super) fn delta_error(
    resolution: Resolution,
    action: &'static str,
) -> impl Fn(DeltaTableError) -> TableError {
    move |source| TableError::Delta {
        table: resolution.table(),
        action,
        source: Box::new(source),
    }
}

/// Returns a log store over plantlake's object store. It uses no registry, and the same code for local folders, memory
/// and S3.
fn log_store(lake: &Store, resolution: Resolution) -> LogStoreRef {
    let store = lake.child(resolution.table());
    default_logstore(
        store.objects(),
        store.root(),
        store.url(),
        &StorageConfig::default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_days_match_its_text() {
        let day = day_from_date("2024-12-31".parse().unwrap());
        for (resolution, text, dates) in [
            (Resolution::Minute, "2024-12-31", 1),
            (Resolution::Hour, "2024-12", 31),
            (Resolution::Day, "2024", 366),
        ] {
            let partition = Partition::containing(resolution, day);
            assert_eq!(partition.as_str(), text);
            let (first, last) = partition.days().unwrap();
            assert_eq!((last - first + 1, last), (dates, day));
        }
        assert_eq!(Partition("x".to_owned()).days(), None);
    }
}
