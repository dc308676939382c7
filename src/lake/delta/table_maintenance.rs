//! Maintenance of a table's folder: unreferenced files, checkpoints, and old log files.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use deltalake::DeltaTable;
use deltalake::protocol::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake::table::state::DeltaTableState;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::error::{TableError, delta_error};
use super::table::Table;
use crate::lake::storage::store::{Store, delete_if_exists};
use crate::model::Resolution;
use crate::rollup_schema::RollupSchema;

/// The number of versions between checkpoints. 10 is the default of the Delta protocol; delta-rs uses 100.
const CHECKPOINT_INTERVAL: u64 = 10;

/// A file in a table's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// The path relative to the table's folder.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The time at which it was written, as the store reports it.
    pub modified: DateTime<Utc>,
}

impl Table {
    /// Returns the files that any version from `oldest` to this one references. A data file that none of them
    /// references, and that was not written recently, is not needed.
    pub async fn referenced_files_since(
        &self,
        oldest: u64,
    ) -> Result<BTreeSet<String>, TableError> {
        let failed = delta_error(self.resolution, "read");
        let mut named = BTreeSet::new();
        let log = self.delta.log_store();
        let latest = self.delta.snapshot().map_err(&failed)?;
        add_file_paths(latest, &mut named);
        let mut old = DeltaTable::new(Arc::clone(&log));
        old.load_version(oldest).await.map_err(&failed)?;
        let old = old.snapshot().map_err(&failed)?;
        add_file_paths(old, &mut named);
        // Files that were added after the oldest version and removed before the latest have tombstones only in the
        // latest.
        let gone_before: BTreeSet<String> = tombstone_paths(old, &*log).await.map_err(&failed)?;
        let gone = tombstone_paths(latest, &*log).await.map_err(&failed)?;
        named.extend(gone.difference(&gone_before).cloned());
        Ok(named)
    }

    /// Returns the Parquet files in the folders of partitions, whether a version references them or not.
    pub async fn stored_files(&self) -> Result<Vec<StoredFile>, TableError> {
        let start = format!("{}=", self.resolution.partition_column());
        let objects = self.store.objects();
        let mut listed = objects.list(None);
        let mut found = Vec::new();
        while let Some(object) = listed
            .try_next()
            .await
            .map_err(|source| TableError::Store {
                path: "/".to_owned(),
                source,
            })?
        {
            let path = object.location.to_string();
            if path.starts_with(&start) && object.location.extension() == Some("parquet") {
                found.push(StoredFile {
                    path,
                    size: object.size,
                    modified: object.last_modified,
                });
            }
        }
        Ok(found)
    }

    /// Deletes a file that no version in use references. Succeeds if the file does not exist.
    pub async fn delete_stored(&self, file: &StoredFile) -> Result<(), TableError> {
        let path = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
        let deleted = delete_if_exists(&*self.store.objects(), &path).await;
        deleted.map_err(|source| TableError::Store {
            path: file.path.clone(),
            source,
        })
    }

    /// Whether this version has a checkpoint.
    async fn has_checkpoint(&self) -> Result<bool, TableError> {
        let path = format!("_delta_log/{:020}.checkpoint.parquet", self.version());
        match self.store.objects().head(&Path::from(path.as_str())).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(TableError::Store { path, source }),
        }
    }

    /// Writes a checkpoint of `version`, if one is due for this version. Opening a table reads the log after the last
    /// checkpoint: without checkpoints, one commit a minute makes every opening slower and larger in memory.
    pub async fn checkpoint_if_due(
        lake: &Store,
        schema: &RollupSchema,
        resolution: Resolution,
        version: u64,
    ) -> Result<(), TableError> {
        if version == 0 || !version.is_multiple_of(CHECKPOINT_INTERVAL) {
            return Ok(());
        }
        let table = Self::open_at(lake, schema, resolution, version).await?;
        table.ensure_checkpoint().await?;
        Ok(())
    }

    /// Writes a checkpoint of this version, so that opening it does not read the whole log. Returns whether the
    /// checkpoint is new.
    pub async fn ensure_checkpoint(&self) -> Result<bool, TableError> {
        if self.has_checkpoint().await? {
            return Ok(false);
        }
        create_checkpoint(&self.delta, None)
            .await
            .map_err(delta_error(self.resolution, "write a checkpoint of"))?;
        Ok(true)
    }

    /// Removes log files from before `before`, unless a version from `oldest` on needs them. Returns their number.
    pub async fn clean_up_log(
        &self,
        oldest: u64,
        before: DateTime<Utc>,
    ) -> Result<usize, TableError> {
        let log = self.delta.log_store();
        cleanup_expired_logs_for(oldest, &*log, before.timestamp_millis(), None)
            .await
            .map_err(delta_error(self.resolution, "delete old log files of"))
    }
}

fn add_file_paths(state: &DeltaTableState, named: &mut BTreeSet<String>) {
    // Use the paths as the store lists them.
    let files = state.log_data().into_iter();
    named.extend(files.map(|file| file.object_store_path().to_string()));
}

async fn tombstone_paths(
    state: &DeltaTableState,
    log: &dyn deltalake::logstore::LogStore,
) -> Result<BTreeSet<String>, deltalake::DeltaTableError> {
    let gone = state.all_tombstones(log);
    gone.map_ok(|file| Path::from(file.path().as_ref()).to_string())
        .try_collect()
        .await
}
