//! The records of runs: what each run intends to do, knows and did, and the versions that it published.
//!
//! Every record is created under a unique name and never overwritten. Readers use the publication with the greatest
//! number. A run that crashed leaves an intent without a publication.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lake::storage::store::{Store, delete_if_exists};
use crate::model::{DateSet, Day, Resolution};

/// The reasons why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The object store fails.
    #[error("cannot read or write {what}")]
    Store {
        /// The path of the record.
        what: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// The record exists, but does not have the format that plantlake writes.
    #[error("{what} is damaged, or was written by another version of plantlake")]
    Damaged {
        /// The path of the record.
        what: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another run has this number.
    #[error("run {run} was started by another process: the lease was lost")]
    NumberTaken {
        /// The number of the run.
        run: u64,
    },
}

/// A run's intent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The run's number.
    pub run: u64,
    /// The time at which the run began.
    pub started_at: DateTime<Utc>,
    /// The dates whose rows the run replaces.
    pub dates: DateSet,
    /// The raw files that the run reads, with their versions.
    pub files: Vec<(String, String)>,
}

/// The versions of the three tables that form one consistent state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The version of the minute table.
    pub data_min: u64,
    /// The version of the hour table.
    pub data_h: u64,
    /// The version of the day table.
    pub data_d: u64,
}

impl Versions {
    /// Returns the version of one table.
    pub const fn get(&self, resolution: Resolution) -> u64 {
        match resolution {
            Resolution::Minute => self.data_min,
            Resolution::Hour => self.data_h,
            Resolution::Day => self.data_d,
        }
    }
}

/// The state of the lake that readers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The run that published it.
    pub run: u64,
    /// The versions of the tables.
    pub versions: Versions,
    /// The time of the publication.
    pub published_at: DateTime<Utc>,
    /// The versions of the archive's tables; `None` before anything was archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Versions>,
    /// The first date whose minutes have not expired. A date before it may have hours without minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes_from: Option<Day>,
}

impl Publication {
    /// Creates the publication of `run`, with the versions of minutes, hours and days.
    pub const fn new(run: u64, versions: [u64; 3], published_at: DateTime<Utc>) -> Self {
        let [data_min, data_h, data_d] = versions;
        Self {
            run,
            versions: Versions {
                data_min,
                data_h,
                data_d,
            },
            published_at,
            archive: None,
            minutes_from: None,
        }
    }

    /// Copies the expiry state (`archive` and `minutes_from`) from the previous publication.
    pub fn copy_expiry_state(&mut self, before: &Self) {
        self.archive = before.archive;
        self.minutes_from = before.minutes_from;
    }
}

impl From<[u64; 3]> for Versions {
    /// Converts the versions of minutes, hours and days.
    fn from([data_min, data_h, data_d]: [u64; 3]) -> Self {
        Self {
            data_min,
            data_h,
            data_d,
        }
    }
}

/// The records of a lake's runs.
#[derive(Debug, Clone)]
pub struct Runs {
    pub(in crate::lake) objects: Arc<dyn ObjectStore>,
}

const INTENT: &str = "intent.json";
const LEDGER: &str = "ledger.json.zst";
pub(in crate::lake) const RECORD: &str = "record.json";
pub(in crate::lake) const MAINTENANCE: &str = "maintenance.json";

pub(in crate::lake) fn run_path(run: u64, file: &str) -> Path {
    Path::from(format!("runs/{run:010}/{file}"))
}

pub(in crate::lake) fn publication_path(run: u64) -> Path {
    Path::from(format!("published/{run:010}.json"))
}

fn damaged(path: &Path) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> RunsError {
    move |source| RunsError::Damaged {
        what: path.to_string(),
        source,
    }
}

impl Runs {
    /// Opens the records of `lake`.
    pub fn open(lake: &Store) -> Self {
        Self {
            objects: lake.objects(),
        }
    }

    /// Returns the latest publication, or `None` before the first run.
    pub async fn latest_publication(&self) -> Result<Option<Publication>, RunsError> {
        match self.published_runs().await?.last_key_value() {
            Some((&run, _)) => self.read_json(&publication_path(run)).await,
            None => Ok(None),
        }
    }

    /// Returns the publication of `run`, or `None` if the run was not published or its record was cleaned up.
    pub async fn publication(&self, run: u64) -> Result<Option<Publication>, RunsError> {
        self.read_json(&publication_path(run)).await
    }

    /// Returns the intents of runs after `published`, none of which was published.
    pub async fn unfinished_intents(&self, published: u64) -> Result<Vec<Intent>, RunsError> {
        let mut intents = Vec::new();
        for run in self.started_runs().await?.range(published + 1..) {
            // A run without an intent has written nothing.
            intents.extend(self.read_json(&run_path(*run, INTENT)).await?);
        }
        Ok(intents)
    }

    /// Returns a number that no run has had.
    pub async fn next_run_number(&self) -> Result<u64, RunsError> {
        let published = self.published_runs().await?;
        let last_published = published.last_key_value().map_or(0, |(run, _)| *run);
        let last_begun = self.started_runs().await?.last().copied().unwrap_or(0);
        let last = last_published.max(last_begun);
        Ok(last.max(self.last_history_run().await?) + 1)
    }

    /// Writes the intent of a run. From then on no other run can have its number.
    pub async fn write_intent(&self, intent: &Intent) -> Result<(), RunsError> {
        self.create_json(intent.run, &run_path(intent.run, INTENT), intent)
            .await
    }

    /// Writes the ledger of a run.
    pub async fn write_ledger<T: Serialize + Sync>(
        &self,
        run: u64,
        ledger: &T,
    ) -> Result<(), RunsError> {
        let path = run_path(run, LEDGER);
        let json = serde_json::to_vec(ledger).map_err(|error| damaged(&path)(error.into()))?;
        let bytes = zstd::bulk::compress(&json, 1).map_err(|error| damaged(&path)(error.into()))?;
        self.create(run, &path, bytes).await
    }

    /// Reads the ledger of a published run.
    pub async fn read_ledger<T: DeserializeOwned>(&self, run: u64) -> Result<T, RunsError> {
        let path = run_path(run, LEDGER);
        let bytes = self
            .objects
            .get(&path)
            .await
            .map_err(failed(&path))?
            .bytes()
            .await
            .map_err(failed(&path))?;
        let json =
            zstd::stream::decode_all(&bytes[..]).map_err(|error| damaged(&path)(error.into()))?;
        serde_json::from_slice(&json).map_err(|error| damaged(&path)(error.into()))
    }

    /// Writes the record of a run.
    pub async fn write_record<T: Serialize + Sync>(
        &self,
        run: u64,
        record: &T,
    ) -> Result<(), RunsError> {
        self.create_json(run, &run_path(run, RECORD), record).await
    }

    /// Returns the records of the last `limit` published runs, newest first. Those of the history come after those of
    /// the lake.
    pub async fn records<T: DeserializeOwned>(&self, limit: usize) -> Result<Vec<T>, RunsError> {
        let mut records = Vec::new();
        for run in self.published_runs().await?.keys().rev() {
            if records.len() >= limit {
                break;
            }
            records.extend(self.read_json(&run_path(*run, RECORD)).await?);
        }
        let before = limit.saturating_sub(records.len());
        if before > 0 {
            records.extend(self.history_records(before).await?);
        }
        Ok(records)
    }

    /// Publishes versions: readers that start later see them.
    pub async fn publish(&self, publication: &Publication) -> Result<(), RunsError> {
        self.create_json(
            publication.run,
            &publication_path(publication.run),
            publication,
        )
        .await
    }

    /// Writes the record of a maintenance run. It is for people, and separate from the records of resample runs.
    pub async fn write_maintenance<T: Serialize + Sync>(
        &self,
        run: u64,
        record: &T,
    ) -> Result<(), RunsError> {
        self.create_json(run, &run_path(run, MAINTENANCE), record)
            .await
    }

    /// Returns the publications that a reader which started at or after `since` may still use, oldest first: the latest
    /// one, and those that were the latest at `since` or later.
    pub async fn publications_in_use(
        &self,
        since: DateTime<Utc>,
    ) -> Result<Vec<Publication>, RunsError> {
        let mut in_use = Vec::new();
        for run in self.published_runs().await?.keys().rev() {
            let Some(publication) = self.publication(*run).await? else {
                continue;
            };
            let was_latest_before = publication.published_at < since;
            in_use.push(publication);
            if was_latest_before {
                break;
            }
        }
        in_use.reverse();
        Ok(in_use)
    }

    /// Removes the records of all published runs except the last `keep`, and those of crashed runs before the last
    /// published one. A publication stays while a reader that started at or after `since` may use it.
    pub async fn clean_up(&self, keep: usize, since: DateTime<Utc>) -> Result<(), RunsError> {
        let published = self.published_runs().await?;
        let Some((&last, _)) = published.last_key_value() else {
            return Ok(());
        };
        let kept: BTreeSet<u64> = published.keys().rev().take(keep.max(1)).copied().collect();
        // A publication was replaced when the next one was written.
        let followed = published.values().skip(1);
        let unused = published.keys().zip(followed);
        let unused = unused.filter(|(run, followed)| !kept.contains(run) && **followed < since);
        for (run, _) in unused {
            self.delete(&publication_path(*run)).await?;
        }
        for run in self.started_runs().await?.range(..last) {
            if kept.contains(run) {
                continue;
            }
            for file in [RECORD, MAINTENANCE, LEDGER, INTENT] {
                self.delete(&run_path(*run, file)).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, path: &Path) -> Result<(), RunsError> {
        let deleted = delete_if_exists(&*self.objects, path).await;
        deleted.map_err(failed(path))
    }

    /// Returns the published runs, with the store's time of each publication.
    pub(in crate::lake) async fn published_runs(
        &self,
    ) -> Result<BTreeMap<u64, DateTime<Utc>>, RunsError> {
        let folder = Path::from("published");
        let objects: Vec<_> = self
            .objects
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(failed(&folder))?;
        Ok(objects
            .iter()
            .filter_map(|object| {
                let name = object.location.filename()?.strip_suffix(".json")?;
                Some((name.parse().ok()?, object.last_modified))
            })
            .collect())
    }

    /// Returns the runs that have written any record.
    pub(in crate::lake) async fn started_runs(&self) -> Result<BTreeSet<u64>, RunsError> {
        let folder = Path::from("runs");
        let mut runs = BTreeSet::new();
        let mut objects = self.objects.list(Some(&folder));
        while let Some(object) = objects.next().await {
            let object = object.map_err(failed(&folder))?;
            runs.extend(
                object
                    .location
                    .parts()
                    .nth(1)
                    .and_then(|part| part.as_ref().parse::<u64>().ok()),
            );
        }
        Ok(runs)
    }

    pub(in crate::lake) async fn read_json<T: DeserializeOwned>(
        &self,
        path: &Path,
    ) -> Result<Option<T>, RunsError> {
        let bytes = match self.objects.get(path).await {
            Ok(found) => found.bytes().await.map_err(failed(path))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(path)(error.into()))
    }

    async fn create_json<T: Serialize + Sync>(
        &self,
        run: u64,
        path: &Path,
        value: &T,
    ) -> Result<(), RunsError> {
        let bytes =
            serde_json::to_vec_pretty(value).map_err(|error| damaged(path)(error.into()))?;
        self.create(run, path, bytes).await
    }

    async fn create(&self, run: u64, path: &Path, bytes: Vec<u8>) -> Result<(), RunsError> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        match self.objects.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => Err(RunsError::NumberTaken { run }),
            Err(error) => Err(failed(path)(error)),
        }
    }
}

pub(in crate::lake) fn failed(path: &Path) -> impl Fn(object_store::Error) -> RunsError {
    move |source| RunsError::Store {
        what: path.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::lake::storage::store::StoreOptions;

    fn intent(run: u64, day: i32) -> Intent {
        Intent {
            run,
            started_at: DateTime::default(),
            dates: DateSet::range(day, day),
            files: Vec::new(),
        }
    }

    #[tokio::test]
    async fn runs_return_latest_publication_and_unfinished_intents() {
        let runs =
            Runs::open(&Store::open("memory://runs-test/lake", &StoreOptions::new()).unwrap());
        assert_eq!(runs.latest_publication().await.unwrap(), None);
        assert_eq!(runs.next_run_number().await.unwrap(), 1);
        for run in 1..=3 {
            runs.write_intent(&intent(run, run as i32)).await.unwrap();
            runs.write_ledger(run, &vec![run]).await.unwrap();
            runs.write_record(run, &run).await.unwrap();
            runs.publish(&Publication::new(run, [run, run, run], DateTime::default()))
                .await
                .unwrap();
        }
        runs.write_intent(&intent(4, 9)).await.unwrap();
        assert!(matches!(
            runs.write_intent(&intent(4, 8)).await,
            Err(RunsError::NumberTaken { run: 4 })
        ));
        assert_eq!(
            runs.latest_publication()
                .await
                .unwrap()
                .map(|publication| publication.run),
            Some(3)
        );
        assert_eq!(runs.unfinished_intents(3).await.unwrap(), [intent(4, 9)]);
        assert_eq!(runs.next_run_number().await.unwrap(), 5);
        assert_eq!(runs.read_ledger::<Vec<u64>>(3).await.unwrap(), [3]);
        // Publications that a reader may still use are kept,
        let long_ago = DateTime::default();
        runs.clean_up(2, long_ago).await.unwrap();
        assert!(runs.publication(1).await.unwrap().is_some());
        let all = runs.publications_in_use(DateTime::default()).await.unwrap();
        assert_eq!(all.len(), 3);
        // and older ones are removed.
        let later = clock::now() + chrono::TimeDelta::hours(1);
        runs.clean_up(2, later).await.unwrap();
        assert!(runs.publication(1).await.unwrap().is_none());
        let latest = runs.publications_in_use(later).await.unwrap();
        assert_eq!(latest.len(), 1);
        assert_eq!(runs.records::<u64>(10).await.unwrap(), [3, 2]);
        assert_eq!(runs.unfinished_intents(3).await.unwrap(), [intent(4, 9)]);
    }
}
