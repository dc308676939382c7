//! The three Delta tables: their schemas, and their files at a version.

use arrow::array::RecordBatch;
use chrono::{DateTime, Datelike, NaiveDate};
use deltalake::kernel::{DataType, PrimitiveType, StructField};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use serde_json::Value;

use super::Store;
pub use super::commit::Change;
pub use super::data_file::{FileWriter, MAX_ROWS_PER_PAGE, WrittenFile, data_file_schema};
use super::pinned_file::PinnedFile;
use crate::model::{Day, Resolution, day_from_date, day_to_date};

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
    /// Opens the latest version of the table. Creates the table if it does not exist.
    pub async fn open_or_create(lake: &Store, resolution: Resolution) -> Result<Self, TableError> {
        let mut delta = DeltaTable::new(log_store(lake, resolution));
        let failed = delta_error(resolution, "open");
        if !delta.verify_deltatable_existence().await.map_err(&failed)? {
            let created = CreateBuilder::new()
                .with_log_store(delta.log_store())
                .with_table_name(resolution.table())
                .with_comment(format!("{resolution} averages, written by plantlake"))
                .with_columns(columns(resolution))
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
        Self::from_delta(lake, resolution, delta).await
    }

    /// Opens the table for a change. Creates the table if it does not exist. If a run committed after the `published`
    /// version (`None` before the first publication) and was never published, the table has the files of the published
    /// version, and the next commit undoes that run. Changes that another program committed since are kept.
    pub async fn open_for_change(
        lake: &Store,
        resolution: Resolution,
        published: Option<u64>,
    ) -> Result<Self, TableError> {
        let mut table = Self::open_or_create(lake, resolution).await?;
        // A table's first version has no files.
        let version = published.unwrap_or(0);
        if table.version() == version || table.applied.is_none() {
            return Ok(table);
        }
        let before = match Self::open_at(lake, resolution, version).await {
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

    /// Opens the table at `version`.
    pub async fn open_at(
        lake: &Store,
        resolution: Resolution,
        version: u64,
    ) -> Result<Self, TableError> {
        let mut delta = DeltaTable::new(log_store(lake, resolution));
        delta
            .load_version(version)
            .await
            .map_err(delta_error(resolution, "open"))?;
        Self::from_delta(lake, resolution, delta).await
    }

    async fn from_delta(
        lake: &Store,
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
        let schema = state.schema();
        for column in columns(resolution) {
            let (name, kind) = (column.name(), column.data_type());
            let problem = match schema.field(name) {
                None => format!("has no column {name}"),
                Some(found) if found.data_type() != kind => {
                    let found = found.data_type();
                    format!("has a column {name} of type {found} instead of {kind}")
                }
                Some(_) => continue,
            };
            let table = resolution.table();
            return Err(TableError::UnexpectedColumns { table, problem });
        }
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
        })
    }

    /// Returns the resolution of the table.
    pub fn resolution(&self) -> Resolution {
        self.resolution
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
                        DateTime::parse_from_rfc3339(stats[kind]["timestamp"].as_str()?).ok()?;
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
                    min_asset: text("minValues", "asset_id"),
                    max_asset: text("maxValues", "asset_id"),
                }
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Returns a writer of one new file. The file is not part of the table before it is committed.
    pub fn writer(&self, partition: Partition) -> FileWriter {
        FileWriter::new(&self.store, self.resolution, partition)
    }

    /// Reads the rows of a file in their order, with the columns of [`data_file_schema`].
    pub async fn read_file(
        &self,
        file: &DataFile,
    ) -> Result<BoxStream<'static, Result<RecordBatch, TableError>>, TableError> {
        self.read_file_in_batches(file, 65_536).await
    }

    /// Reads the rows of a file in batches of at most `rows`.
    pub async fn read_file_in_batches(
        &self,
        file: &DataFile,
        rows: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch, TableError>>, TableError> {
        let path = file.path.clone();
        let failed = move |source| TableError::Parquet {
            path: path.clone(),
            source,
        };
        let reader = PinnedFile::new(self.store.objects(), &file.path, None, file.size);
        let options = ArrowReaderOptions::new().with_schema(data_file_schema());
        let stream = ParquetRecordBatchStreamBuilder::new_with_options(reader, options)
            .await
            .map_err(&failed)?
            .with_batch_size(rows);
        let stream = stream.build().map_err(&failed)?;
        Ok(stream.map_err(failed).boxed())
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

/// Returns the columns of a table. The partition column is the last.
fn columns(resolution: Resolution) -> Vec<StructField> {
    let field = |name: &str, kind: PrimitiveType, nullable: bool| {
        StructField::new(name, DataType::Primitive(kind), nullable)
    };
    let mut columns = vec![
        field("asset_id", PrimitiveType::String, false),
        field("timestamp", PrimitiveType::Timestamp, false),
        field("value", PrimitiveType::Double, false),
        field("count", PrimitiveType::Long, false),
    ];
    columns.extend(
        ["min", "max", "first", "last"].map(|name| field(name, PrimitiveType::Double, false)),
    );
    columns.push(field("stddev", PrimitiveType::Double, true));
    let partition = match resolution {
        Resolution::Minute => PrimitiveType::Date,
        Resolution::Hour => PrimitiveType::String,
        Resolution::Day => PrimitiveType::Integer,
    };
    columns.push(field(resolution.partition_column(), partition, false));
    columns
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
