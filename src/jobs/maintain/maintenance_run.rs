//! One round of maintenance: opens the published tables for a change, and publishes the changes.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tracing::info;

use super::time::now;
use crate::clock;
use crate::jobs::error::{JobError, table_error};
use crate::jobs::resample::job::Job;
use crate::jobs::resample::ledger::Ledger;
use crate::lake::Store;
use crate::lake::delta::commit::Change;
use crate::lake::delta::partition::DataFile;
use crate::lake::delta::table::Table;
use crate::lake::records::lease::Lease;
use crate::lake::records::runs::{Intent, Publication, Runs, Versions};
use crate::lake::storage::failpoint;
use crate::model::{DateSet, Day, Resolution};

/// Returns the archive of a lake for expired rows of tables.
pub(super) fn table_archive(lake: &Store) -> Store {
    lake.child("archive")
}

/// A published lake that is opened for maintenance.
pub(super) struct MaintenanceRun<'a> {
    pub job: &'a Job,
    pub lease: Option<&'a Lease>,
    pub runs: Runs,
    pub published: Publication,
    /// The ledger that this round will publish.
    pub ledger: Ledger,
    /// The tables, finest first.
    pub tables: Vec<Table>,
    /// The tables of the archive, finest first; empty before anything was archived.
    pub archive: Vec<Table>,
    /// The dates of runs that crashed. They are still to be computed again.
    pub unfinished: DateSet,
    pub now: DateTime<Utc>,
}

/// The changes to the tables and to the tables of the archive, finest first.
#[derive(Debug, Default)]
pub(super) struct MaintenanceChanges {
    pub tables: [Change; 3],
    pub archive: [Change; 3],
}

impl<'a> MaintenanceRun<'a> {
    /// Opens the latest publication. Returns `None` if there is none.
    pub async fn open(
        job: &'a Job,
        lease: Option<&'a Lease>,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, JobError> {
        let runs = Runs::open(&job.lake);
        let Some(published) = runs.latest_publication().await? else {
            return Ok(None);
        };
        let mut ledger: Ledger = runs.read_ledger(published.run).await?;
        ledger.holds.retain(|hold| hold.until > now);
        let mut unfinished = DateSet::default();
        for intent in runs.unfinished_intents(published.run).await? {
            unfinished.extend(&intent.dates);
        }
        // Once this run is published, the intents of earlier runs are ignored, so their dates become due here.
        ledger.due.extend(&unfinished.difference(&ledger.sealed));
        let mut tables = Vec::new();
        for resolution in Resolution::ALL {
            let before = published.versions.get(resolution);
            let before = Some(before);
            let table = Table::open_for_change(&job.lake, &job.schema, resolution, before).await;
            tables.push(table.map_err(table_error(resolution))?);
        }
        let mut round = Self {
            job,
            lease,
            runs,
            published,
            ledger,
            tables,
            archive: Vec::new(),
            unfinished,
            now,
        };
        if let Some(versions) = round.published.archive {
            round.open_archive(versions).await?;
        }
        Ok(Some(round))
    }

    /// Opens the published versions of the archive's tables.
    async fn open_archive(&mut self, versions: Versions) -> Result<(), JobError> {
        let lake = table_archive(&self.job.lake);
        for resolution in Resolution::ALL {
            let before = Some(versions.get(resolution));
            let schema = &self.job.schema;
            let table = Table::open_for_change(&lake, schema, resolution, before).await;
            self.archive.push(table.map_err(table_error(resolution))?);
        }
        Ok(())
    }

    /// Creates the archive if it does not exist, and publishes its empty tables before anything is written to them. So
    /// the rows of an archive without a record come from a lost record, and never from a run that crashed.
    pub async fn create_archive(&mut self) -> Result<(), JobError> {
        if self.published.archive.is_some() {
            return Ok(());
        }
        let lake = table_archive(&self.job.lake);
        for resolution in Resolution::ALL {
            let table = Table::open_or_create(&lake, &self.job.schema, resolution).await;
            let table = table.map_err(table_error(resolution))?;
            if table.version() > 0 {
                return Err(JobError::UnknownArchive {
                    folder: lake.to_string(),
                });
            }
        }
        let run = self.runs.next_run_number().await?;
        self.write_intent(run).await?;
        self.runs.write_ledger(run, &self.ledger).await?;
        let versions = Versions::from([0; 3]);
        let publication = Publication {
            run,
            published_at: now(),
            archive: Some(versions),
            ..self.published.clone()
        };
        if let Some(lease) = self.lease {
            lease.check()?;
        }
        self.runs.publish(&publication).await?;
        failpoint::reach("archive-founded");
        self.published = publication;
        self.open_archive(versions).await
    }

    /// Prepares the tables of the archive, and with `is_restore` the tables themselves, for rows with columns that
    /// plantlake does not know.
    pub fn adopt_columns(&mut self, is_restore: bool) -> Result<(), JobError> {
        for (table, archive) in self.tables.iter_mut().zip(&mut self.archive) {
            let (target, source) = match is_restore {
                true => (table, archive),
                false => (archive, table),
            };
            let adopted = target.adopt_columns(source);
            adopted.map_err(table_error(target.resolution()))?;
        }
        Ok(())
    }

    /// Returns the archive's files of a table.
    pub fn archived_files(&self, resolution: Resolution) -> Vec<DataFile> {
        let table = self.archive.get(resolution as usize);
        table.map(Table::files).unwrap_or_default()
    }

    /// Writes the intent of the run. It has no dates, because no row is computed.
    pub async fn write_intent(&self, run: u64) -> Result<(), JobError> {
        failpoint::reach("before-intent");
        let intent = Intent {
            run,
            started_at: clock::now(),
            dates: DateSet::default(),
            files: Vec::new(),
        };
        self.runs.write_intent(&intent).await?;
        failpoint::reach("after-intent");
        Ok(())
    }

    /// Deletes the files of a round that failed.
    pub async fn discard(&self, changes: &MaintenanceChanges) {
        let live = self.tables.iter().zip(&changes.tables);
        for (table, change) in live.chain(self.archive.iter().zip(&changes.archive)) {
            table.delete_uncommitted(&change.add).await;
            table.delete_uncommitted(&change.merged_into).await;
        }
    }

    /// Commits the tables of the archive first, so that rows are in the archive before they leave a table. Then commits
    /// the tables, writes the ledger and the record that `record` returns, and publishes.
    pub async fn publish<R: Serialize + Sync>(
        &mut self,
        run: u64,
        changes: MaintenanceChanges,
        minutes_from: Option<Day>,
        record: impl FnOnce() -> R,
    ) -> Result<(), JobError> {
        self.retain_outdated(&changes);
        let MaintenanceChanges { tables, archive } = changes;
        // Readers see the expiring files until this publication, however long it took to write their replacements.
        let now = now();
        let retired = self.ledger.leaving.values_mut();
        retired
            .filter(|leaving| leaving.since == self.now)
            .for_each(|leaving| leaving.since = now);
        let mut publication = Publication::new(run, [0; 3], now);
        publication.copy_expiry_state(&self.published);
        publication.minutes_from = publication.minutes_from.max(minutes_from);
        if !self.archive.is_empty() {
            let mut versions = [0; 3];
            for (at, change) in archive.into_iter().enumerate() {
                failpoint::reach("before-commit-archive");
                versions[at] = commit(self.lease, &mut self.archive[at], run, change).await?;
                failpoint::reach("after-commit-archive");
            }
            publication.archive = Some(Versions::from(versions));
        }
        let mut versions = [0; 3];
        for (at, change) in tables.into_iter().enumerate() {
            let table = &mut self.tables[at];
            let name = table.resolution().table();
            failpoint::reach(&format!("before-commit-{name}"));
            versions[at] = commit(self.lease, table, run, change).await?;
            failpoint::reach(&format!("after-commit-{name}"));
        }
        publication.versions = Versions::from(versions);
        failpoint::reach("before-ledger");
        self.runs.write_ledger(run, &self.ledger).await?;
        failpoint::reach("after-ledger");
        self.runs.write_maintenance(run, &record()).await?;
        if let Some(lease) = self.lease {
            lease.check()?;
        }
        failpoint::reach("before-publish");
        self.runs.publish(&publication).await?;
        failpoint::reach("after-publish");
        info!(previous = self.published.run, "published");
        self.published = publication;
        Ok(())
    }

    /// Keeps only recomputed dates whose rows in the archive are still outdated.
    fn retain_outdated(&mut self, changes: &MaintenanceChanges) {
        let mut stale = DateSet::default();
        for (table, change) in self.archive.iter().zip(&changes.archive) {
            let gone = change.remove.iter().map(|file| file.path.as_str());
            let gone: BTreeSet<&str> = gone.collect();
            for file in table.files() {
                if !gone.contains(file.path.as_str())
                    && let Some((first, last)) = file.partition.days()
                {
                    stale.insert_range(first, last);
                }
            }
        }
        self.ledger.recomputed = self.ledger.recomputed.intersection(&stale);
    }
}

async fn commit(
    lease: Option<&Lease>,
    table: &mut Table,
    run: u64,
    change: Change,
) -> Result<u64, JobError> {
    if let Some(lease) = lease {
        lease.check()?;
    }
    let resolution = table.resolution();
    let committed = table.commit(run, change).await;
    committed.map_err(table_error(resolution))
}
