//! The log of runs: what each run did, and when. Unlike the tables, it cannot be recomputed.
//!
//! The log is copied into backups. A lake that is rebuilt from its raw files gets the old log back as its history
//! (`history/`). The versions that those runs published no longer exist, so the history is kept apart from the
//! publications. Run numbers continue after the history.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::de::DeserializeOwned;

use super::runs::{MAINTENANCE, RECORD, Runs, RunsError, failed, publication_path, run_path};
use crate::lake::storage::store::delete_if_exists;

/// The folder with the log of runs from before the lake was rebuilt.
const HISTORY: &str = "history";

impl Runs {
    /// Returns the paths of the log's files: the records of published runs and those of the history. Paths are relative
    /// to the lake or to the history.
    pub async fn log_files(&self) -> Result<Vec<String>, RunsError> {
        let mut files: Vec<String> = Vec::new();
        for object in self.list(HISTORY).await? {
            files.extend(strip_history_prefix(&object));
        }
        for run in self.published_runs().await?.into_keys() {
            let paths = [
                run_path(run, RECORD),
                run_path(run, MAINTENANCE),
                publication_path(run),
            ];
            files.extend(paths.iter().map(Path::to_string));
        }
        files.sort();
        Ok(files)
    }

    /// Returns the content of a file of the log, or `None` if there is no such file any more.
    pub async fn log_file(&self, file: &str) -> Result<Option<Vec<u8>>, RunsError> {
        for path in [Path::from(file), history_path(file)] {
            match self.objects.get(&path).await {
                Ok(found) => {
                    let bytes = found.bytes().await.map_err(failed(&path))?;
                    return Ok(Some(bytes.to_vec()));
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        Ok(None)
    }

    /// Whether the lake has runs of its own, published or not.
    pub async fn has_runs(&self) -> Result<bool, RunsError> {
        Ok(!self.published_runs().await?.is_empty() || !self.started_runs().await?.is_empty())
    }

    /// Adds a file to the history.
    pub async fn add_history_file(&self, file: &str, bytes: Vec<u8>) -> Result<(), RunsError> {
        let path = history_path(file);
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let put = self.objects.put_opts(&path, bytes.into(), options).await;
        put.map(drop).map_err(failed(&path))
    }

    /// Removes a file from the history.
    pub async fn remove_history_file(&self, file: &str) -> Result<(), RunsError> {
        let path = history_path(file);
        let deleted = delete_if_exists(&*self.objects, &path).await;
        deleted.map_err(failed(&path))
    }

    /// Returns the number of the last run in the history, or 0 if there is none.
    pub(in crate::lake) async fn last_history_run(&self) -> Result<u64, RunsError> {
        Ok(self.history_runs().await?.pop().unwrap_or(0))
    }

    /// Returns the records of the last `limit` runs in the history, newest first.
    pub(in crate::lake) async fn history_records<T: DeserializeOwned>(
        &self,
        limit: usize,
    ) -> Result<Vec<T>, RunsError> {
        let mut records = Vec::new();
        for run in self.history_runs().await?.into_iter().rev().take(limit) {
            let path = history_path(run_path(run, RECORD).as_ref());
            records.extend(self.read_json(&path).await?);
        }
        Ok(records)
    }

    /// Returns the numbers of the runs in the history, in ascending order.
    async fn history_runs(&self) -> Result<Vec<u64>, RunsError> {
        let records = self.list(HISTORY).await?;
        let mut runs: Vec<u64> = records
            .iter()
            .filter_map(|path| {
                let file = strip_history_prefix(path)?;
                let run = file.strip_prefix("runs/")?.strip_suffix(RECORD)?;
                run.strip_suffix('/')?.parse().ok()
            })
            .collect();
        runs.sort_unstable();
        Ok(runs)
    }

    async fn list(&self, folder: &str) -> Result<Vec<Path>, RunsError> {
        let folder = Path::from(folder);
        let objects = self.objects.list(Some(&folder));
        let paths = objects.map_ok(|object| object.location).try_collect().await;
        paths.map_err(failed(&folder))
    }
}

fn history_path(file: &str) -> Path {
    Path::from(format!("{HISTORY}/{file}"))
}

fn strip_history_prefix(path: &Path) -> Option<String> {
    let below = path.as_ref().strip_prefix(HISTORY)?.strip_prefix('/')?;
    Some(below.to_owned())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::lake::records::runs::Publication;
    use crate::lake::storage::store::{Store, StoreOptions};

    fn runs(name: &str) -> Runs {
        let url = format!("memory://{name}/lake");
        Runs::open(&Store::open(&url, &StoreOptions::new()).unwrap())
    }

    #[tokio::test]
    async fn runs_of_rebuilt_lake_continue_after_history() {
        let old = runs("history-old");
        for run in 1..=3 {
            old.write_record(run, &run).await.unwrap();
            let publication = Publication::new(run, [run, run, run], DateTime::default());
            old.publish(&publication).await.unwrap();
        }
        // A run that crashed before it published anything.
        old.write_record(4, &4).await.unwrap();
        let new = runs("history-new");
        for file in old.log_files().await.unwrap() {
            if let Some(bytes) = old.log_file(&file).await.unwrap() {
                new.add_history_file(&file, bytes).await.unwrap();
            }
        }
        assert!(new.latest_publication().await.unwrap().is_none());
        assert!(!new.has_runs().await.unwrap());
        assert_eq!(new.records::<u64>(2).await.unwrap(), [3, 2]);
        assert_eq!(new.next_run_number().await.unwrap(), 4);
        new.write_record(4, &40).await.unwrap();
        let publication = Publication::new(4, [0, 0, 0], DateTime::default());
        new.publish(&publication).await.unwrap();
        new.clean_up(1, DateTime::default()).await.unwrap();
        assert_eq!(new.records::<u64>(10).await.unwrap(), [40, 3, 2, 1]);
        // The logs of both lakes can be copied again.
        let files = new.log_files().await.unwrap();
        assert!(
            files.contains(&"runs/0000000001/record.json".to_owned()),
            "{files:?}"
        );
        assert!(
            files.contains(&"runs/0000000004/record.json".to_owned()),
            "{files:?}"
        );
        let first = new.log_file("runs/0000000001/record.json").await.unwrap();
        assert_eq!(first, Some(b"1".to_vec()));
    }
}
