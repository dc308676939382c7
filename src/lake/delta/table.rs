//! The three Delta tables: their schemas, and their files at a version.

use super::application_id::APPLICATION_ID;
use super::error::{TableError, delta_error};
use super::partition::{DataFile, Partition};
use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::data_file::{FileWriter, WrittenFile};
use super::table_columns::{TableColumns, delta_fields};
use crate::lake::storage::store::Store;
use crate::model::Resolution;
use crate::rollup_schema::{ASSET_COLUMN, RollupSchema, TIME_COLUMN};

/// One table at one version.
#[derive(Debug, Clone)]
pub struct Table {
    pub(in crate::lake) resolution: Resolution,
    pub(in crate::lake) store: Store,
    pub(in crate::lake) delta: DeltaTable,
    pub(in crate::lake) applied: Option<u64>,
    /// The published version whose files are used, if it is not the open version.
    pub(in crate::lake) base: Option<DeltaTable>,
    pub(in crate::lake) schema: RollupSchema,
    pub(in crate::lake) columns: TableColumns,
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
        if let Some(version) = published
            && !Self::has_version(lake, resolution, version).await?
        {
            return Err(TableError::Lost {
                table: resolution.table(),
                version,
            });
        }
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

    /// Whether the log of the table has this version.
    pub async fn has_version(
        lake: &Store,
        resolution: Resolution,
        version: u64,
    ) -> Result<bool, TableError> {
        let objects = lake.child(resolution.table()).objects();
        for ending in ["json", "checkpoint.parquet"] {
            let path = format!("_delta_log/{version:020}.{ending}");
            match objects.head(&Path::from(path.as_str())).await {
                Ok(_) => return Ok(true),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(TableError::Store { path, source }),
            }
        }
        Ok(false)
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
    pub(in crate::lake) fn state(&self) -> Option<&DeltaTableState> {
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
