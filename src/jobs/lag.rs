//! Measures how far the tables are behind the raw files: the number of files that no published run has processed, and
//! since when they wait.
//!
//! A file waits since its last modification, or since the check before the one that first saw it, if that is later.
//! Removed files wait, too, but without a start time.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::error::JobError;
use super::resample::ledger::Ledger;
use super::resample::plan::compare;
use crate::clock;
use crate::lake::Store;
use crate::lake::raw::list_raw_files;
use crate::lake::records::runs::Runs;
use crate::metrics::{METRICS, WaitingFiles};
use crate::model::Resolution;

/// Checks the lag repeatedly, and remembers since when files wait.
#[derive(Debug)]
pub struct LagMonitor {
    lake: Store,
    raw: Store,
    /// The last published run and its ledger.
    known: Option<(u64, Ledger)>,
    /// The time since which each file waits, by path and modification time.
    since: HashMap<(String, i64), DateTime<Utc>>,
    /// The time of the last check.
    last_checked: Option<DateTime<Utc>>,
}

impl LagMonitor {
    /// Creates a watch for the tables in `lake` and the files in `raw`.
    pub fn new(lake: Store, raw: Store) -> Self {
        Self {
            lake,
            raw,
            known: None,
            since: HashMap::new(),
            last_checked: None,
        }
    }

    /// Checks the lag and updates the metrics.
    pub async fn check(&mut self) -> Result<WaitingFiles, JobError> {
        let waiting = self
            .measure(clock::now())
            .await
            .inspect_err(|_| METRICS.tables.count_failed_check())?;
        METRICS
            .tables
            .set_waiting_files(&Resolution::ALL.map(Resolution::table), waiting);
        Ok(waiting)
    }

    async fn measure(&mut self, now: DateTime<Utc>) -> Result<WaitingFiles, JobError> {
        let runs = Runs::open(&self.lake);
        let published = runs.latest_publication().await?;
        let run = published.as_ref().map_or(0, |publication| publication.run);
        if self.known.as_ref().is_none_or(|(known, _)| *known != run) {
            let ledger = match run {
                0 => Ledger::default(),
                run => runs.read_ledger(run).await?,
            };
            self.known = Some((run, ledger));
        }
        let listed = list_raw_files(&self.raw).await?;
        let Some((_, ledger)) = &self.known else {
            return Ok(WaitingFiles {
                files: 0,
                since: None,
            });
        };
        let changes = compare(ledger, &listed, false);
        // At the first check, unprocessed files are assumed to have arrived after the last published run.
        let earliest = self
            .last_checked
            .or(published.map(|publication| publication.published_at));
        let mut since = HashMap::new();
        for file in &changes.fresh {
            let key = (file.path.clone(), file.modified);
            let modified = DateTime::from_timestamp_nanos(file.modified);
            let known = self.since.get(&key).copied();
            let from = known.unwrap_or_else(|| {
                earliest
                    .map_or(modified, |earliest| modified.max(earliest))
                    .min(now)
            });
            since.insert(key, from);
        }
        let oldest = since.values().min().copied();
        self.since = since;
        self.last_checked = Some(now);
        Ok(WaitingFiles {
            files: (changes.fresh.len() + changes.removed.len()) as u64,
            since: oldest,
        })
    }
}
