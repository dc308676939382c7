//! The log of runs, apart from the tables that they made: what was done, and when. It cannot be computed again.
//!
//! It is copied into backups. A lake that begins anew, from its raw files, gets it back as its history (`history/`): what
//! those runs published is no more, so nobody may take them for publications. Numbers of runs go on after it.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::de::DeserializeOwned;

use super::runs::{MAINTENANCE, RECORD, Runs, RunsError, failed, publication_path, run_path};
use super::store::delete_if_there;

/// Where the log of runs is that came before the lake.
const HISTORY: &str = "history";

impl Runs {
    /// The files of the log: records of published runs, and of those before the lake. Paths are as in a history.
    pub async fn log_files(&self) -> Result<Vec<String>, RunsError> {
        let mut files: Vec<String> = Vec::new();
        for object in self.list(HISTORY).await? {
            files.extend(below_history(&object));
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

    /// The content of a file of the log; none, if there is no such file, or no more.
    pub async fn log_file(&self, file: &str) -> Result<Option<Vec<u8>>, RunsError> {
        for path in [Path::from(file), in_history(file)] {
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

    /// Whether the lake has runs of its own.
    pub async fn has_begun(&self) -> Result<bool, RunsError> {
        Ok(!self.published_runs().await?.is_empty() || !self.begun_runs().await?.is_empty())
    }

    /// Puts a file into the history.
    pub async fn add_history(&self, file: &str, bytes: Vec<u8>) -> Result<(), RunsError> {
        let path = in_history(file);
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let put = self.objects.put_opts(&path, bytes.into(), options).await;
        put.map(drop).map_err(failed(&path))
    }

    /// Takes a file out of the history.
    pub async fn remove_history(&self, file: &str) -> Result<(), RunsError> {
        let path = in_history(file);
        let deleted = delete_if_there(&*self.objects, &path).await;
        deleted.map_err(failed(&path))
    }

    /// The last run of the history; 0 without one.
    pub(super) async fn last_of_history(&self) -> Result<u64, RunsError> {
        Ok(self.history().await?.pop().unwrap_or(0))
    }

    /// What the last `limit` runs of the history did, newest first.
    pub(super) async fn history_records<T: DeserializeOwned>(
        &self,
        limit: usize,
    ) -> Result<Vec<T>, RunsError> {
        let mut records = Vec::new();
        for run in self.history().await?.into_iter().rev().take(limit) {
            let path = in_history(run_path(run, RECORD).as_ref());
            records.extend(self.read_json(&path).await?);
        }
        Ok(records)
    }

    /// The runs of the history.
    async fn history(&self) -> Result<Vec<u64>, RunsError> {
        let records = self.list(HISTORY).await?;
        let mut runs: Vec<u64> = records
            .iter()
            .filter_map(|path| {
                let file = below_history(path)?;
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

fn in_history(file: &str) -> Path {
    Path::from(format!("{HISTORY}/{file}"))
}

fn below_history(path: &Path) -> Option<String> {
    let below = path.as_ref().strip_prefix(HISTORY)?.strip_prefix('/')?;
    Some(below.to_owned())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::lake::runs::Publication;
    use crate::lake::{Store, StoreOptions};

    fn runs(name: &str) -> Runs {
        let url = format!("memory://{name}/lake");
        Runs::open(&Store::open(&url, &StoreOptions::new()).unwrap())
    }

    #[tokio::test]
    async fn a_lake_that_begins_anew_goes_on_after_its_history() {
        let old = runs("history-old");
        for run in 1..=3 {
            old.write_record(run, &run).await.unwrap();
            let publication = Publication::new(run, [run, run, run], DateTime::default());
            old.publish(&publication).await.unwrap();
        }
        // One that died before it published anything.
        old.write_record(4, &4).await.unwrap();
        let new = runs("history-new");
        for file in old.log_files().await.unwrap() {
            if let Some(bytes) = old.log_file(&file).await.unwrap() {
                new.add_history(&file, bytes).await.unwrap();
            }
        }
        assert!(new.latest_publication().await.unwrap().is_none());
        assert!(!new.has_begun().await.unwrap());
        assert_eq!(new.records::<u64>(2).await.unwrap(), [3, 2]);
        assert_eq!(new.next_run_number().await.unwrap(), 4);
        new.write_record(4, &40).await.unwrap();
        let publication = Publication::new(4, [0, 0, 0], DateTime::default());
        new.publish(&publication).await.unwrap();
        new.clean_up(1, DateTime::default()).await.unwrap();
        assert_eq!(new.records::<u64>(10).await.unwrap(), [40, 3, 2, 1]);
        // The log of both can be copied again.
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
