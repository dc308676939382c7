//! Commits changes to a table: files are added and removed in one Delta commit, in the name of a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, Add, Remove, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};

use super::application_id::APPLICATION_ID;
use super::data_file::WrittenFile;
use super::error::{TableError, delta_error};
use super::partition::{DataFile, Partition};
use super::table::Table;
use crate::clock;

/// The files that a commit adds and removes.
#[derive(Debug, Default)]
pub struct Change {
    /// Added files whose rows differ from the rows that were there (`dataChange` is true).
    pub add: Vec<WrittenFile>,
    /// Removed files whose rows are deleted, or rewritten into `add`.
    pub remove: Vec<DataFile>,
    /// Added files with the rows of `merged`, unchanged. Both are written with `dataChange` false, so readers of row
    /// changes may skip them.
    pub merged_into: Vec<WrittenFile>,
    /// Removed files whose rows are now in `merged_into`.
    pub merged: Vec<DataFile>,
}

impl Table {
    /// Commits `change` in one Delta commit as the result of `run`, and returns the new version. Returns the open
    /// version if there is nothing to do. The same commit undoes the commits of earlier runs that were never published.
    /// The commit is based on the open version: if another writer has committed since, it fails and changes nothing.
    pub async fn commit(&mut self, run: u64, change: Change) -> Result<u64, TableError> {
        let table = self.resolution.table();
        if let Some(applied) = self.applied.filter(|&applied| applied >= run) {
            return Err(TableError::Superseded {
                table,
                run,
                applied,
            });
        }
        let only_merges = change.add.is_empty() && change.remove.is_empty() && self.base.is_none();
        let mut actions = self.actions(change)?;
        if actions.is_empty() {
            return Ok(self.version());
        }
        actions.extend(self.evolution()?);
        let column = self.resolution.partition_column();
        let operation = match only_merges {
            true => DeltaOperation::Optimize {
                predicate: None,
                target_size: 0,
            },
            false => DeltaOperation::Write {
                mode: SaveMode::Overwrite,
                partition_by: Some(vec![column.to_owned()]),
                // Readers expect SQL here. Only the partitions of the actions are overwritten, and a predicate that lists
                // them would grow with the table.
                predicate: None,
            },
        };
        let properties = CommitProperties::default()
            .with_application_transaction(Transaction::new(APPLICATION_ID, run as i64))
            // No retry on a newer version: a second runner must fail here.
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(false));
        let log = self.delta.log_store();
        let failed = delta_error(self.resolution, "commit to");
        let state = self.delta.snapshot().map_err(&failed)?;
        let state: &dyn TableReference = state;
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(state), Arc::clone(&log), operation)
            .await;
        match committed {
            Ok(commit) => Ok(commit.version()),
            // A step after the commit can fail although the commit succeeded, so check the log before giving up.
            Err(error) => {
                let mut latest = DeltaTable::new(Arc::clone(&log));
                latest.load().await.map_err(&failed)?;
                let applied = latest
                    .snapshot()
                    .map_err(&failed)?
                    .transaction_version(&*log, APPLICATION_ID)
                    .await
                    .map_err(&failed)?;
                match latest.version() {
                    Some(version) if applied == i64::try_from(run).ok() => Ok(version),
                    _ => Err(failed(error)),
                }
            }
        }
    }

    /// Returns the actions that turn the files of the latest version into those of the [base](Self::open_for_change)
    /// with `change` applied.
    fn actions(&self, change: Change) -> Result<Vec<Action>, TableError> {
        let now = clock::now().timestamp_millis();
        let column = self.resolution.partition_column();
        let partition_values =
            |partition: &Partition| HashMap::from([(column.to_owned(), Some(partition.0.clone()))]);
        let mut undone = self.undo_actions()?;
        let mut actions = Vec::new();
        let merged: BTreeSet<String> = change.merged.iter().map(|it| it.path.clone()).collect();
        for file in change.merged.into_iter().chain(change.remove) {
            // The latest version does not have this file, so it needs neither an add nor a remove action.
            if undone.adds.remove(&file.path).is_some() {
                continue;
            }
            actions.push(Action::Remove(Remove {
                data_change: !merged.contains(&file.path),
                path: file.path,
                deletion_timestamp: Some(now),
                extended_file_metadata: Some(true),
                partition_values: Some(partition_values(&file.partition)),
                size: file.size.try_into().ok(),
                tags: None,
                deletion_vector: None,
                base_row_id: None,
                default_row_commit_version: None,
            }));
        }
        actions.extend(undone.removes.into_iter().map(Action::Remove));
        actions.extend(undone.adds.into_values().map(Action::Add));
        let added = change.add.into_iter().map(|file| (file, true));
        let merged = change.merged_into.into_iter().map(|file| (file, false));
        for (file, data_change) in added.chain(merged) {
            actions.push(Action::Add(Add {
                partition_values: partition_values(&file.partition),
                path: file.path,
                size: file.size as i64,
                modification_time: now,
                data_change,
                stats: Some(file.stats.to_string()),
                tags: None,
                deletion_vector: None,
                base_row_id: None,
                default_row_commit_version: None,
                clustering_provider: None,
            }));
        }
        Ok(actions)
    }

    /// Returns the action that adds the columns that the table lacks, if it lacks any. It replaces the schema only: the
    /// identity of the table and its protocol remain.
    fn evolution(&self) -> Result<Option<Action>, TableError> {
        let failed = delta_error(self.resolution, "add columns to");
        let metadata = self.delta.snapshot().map_err(&failed)?.metadata();
        let evolved = self.columns.evolved_metadata(metadata).map_err(&failed)?;
        Ok(evolved.map(Action::Metadata))
    }

    /// Returns the actions that undo the commits since the base.
    fn undo_actions(&self) -> Result<UndoActions, TableError> {
        let mut undone = UndoActions::default();
        let Some(base) = &self.base else {
            return Ok(undone);
        };
        let failed = delta_error(self.resolution, "open");
        let base = base.snapshot().map_err(&failed)?;
        let latest = self.delta.snapshot().map_err(&failed)?;
        let paths = |state: &deltalake::table::state::DeltaTableState| -> BTreeSet<String> {
            let files = state.log_data().into_iter();
            files.map(|file| file.path().into_owned()).collect()
        };
        let (before, after) = (paths(base), paths(latest));
        for file in latest.log_data() {
            if !before.contains(&*file.path()) {
                undone.removes.push(file.remove_action(true));
            }
        }
        for file in base.log_data() {
            if !after.contains(&*file.path()) {
                let path = file.path().into_owned();
                #[expect(
                    deprecated,
                    reason = "no other API returns an action with all of the file's metadata"
                )]
                undone.adds.insert(path, file.add_action());
            }
        }
        Ok(undone)
    }
}

#[derive(Default)]
struct UndoActions {
    removes: Vec<Remove>,
    adds: BTreeMap<String, Add>,
}
