//! How far the tables are behind the raw files: which of them no published run has taken up, and since when they wait.
//!
//! A file waits from when it was last modified; or, if it came into the folder later than that, from the look before the
//! first that saw it. Files that are gone wait, too, but nobody knows since when.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::ledger::Ledger;
use super::plan::compare;
use super::resample::JobError;
use crate::clock;
use crate::lake::Store;
use crate::lake::raw::list;
use crate::lake::runs::Runs;
use crate::metrics::{METRICS, Waiting};
use crate::model::Resolution;

/// Looks again and again, and remembers what it saw.
#[derive(Debug)]
pub struct LagWatch {
    lake: Store,
    raw: Store,
    /// The last published run, and what it knew.
    known: Option<(u64, Ledger)>,
    /// Files that wait, by path and time of modification: since when.
    since: HashMap<(String, i64), DateTime<Utc>>,
    /// When it looked last.
    looked: Option<DateTime<Utc>>,
}

impl LagWatch {
    /// Of these tables and raw files.
    pub fn new(lake: Store, raw: Store) -> Self {
        Self {
            lake,
            raw,
            known: None,
            since: HashMap::new(),
            looked: None,
        }
    }

    /// Looks, and tells the metrics.
    pub async fn look(&mut self) -> Result<Waiting, JobError> {
        let waiting = self
            .look_now(clock::now())
            .await
            .inspect_err(|_| METRICS.tables.not_seen())?;
        METRICS
            .tables
            .waiting(&Resolution::ALL.map(Resolution::table), waiting);
        Ok(waiting)
    }

    async fn look_now(&mut self, now: DateTime<Utc>) -> Result<Waiting, JobError> {
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
        let listed = list(&self.raw).await?;
        let Some((_, ledger)) = &self.known else {
            return Ok(Waiting {
                files: 0,
                since: None,
            });
        };
        let changes = compare(ledger, &listed, false);
        // At the first look, what was there and was not taken up came after that run.
        let earliest = self
            .looked
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
        self.looked = Some(now);
        Ok(Waiting {
            files: (changes.fresh.len() + changes.removed.len()) as u64,
            since: oldest,
        })
    }
}
