//! Carries out the plan of a run: writes the intent, the data files, the commits and the records, and publishes the
//! three tables together.

use std::sync::Arc;

use tracing::{debug, info, warn};

use super::attempt::{Attempt, DamagedFiles};
use super::ledger::Ledger;
use super::plan::Plan;
use super::report::{Outcome, Report};
use super::rollup_files::RollupFiles;
use crate::clock;
use crate::jobs::error::{JobError, table_error};
use crate::lake::delta::commit::Change;
use crate::lake::delta::table::Table;
use crate::lake::records::runs::{Intent, Publication};
use crate::lake::storage::failpoint;
use crate::model::Resolution;

/// The number of published runs whose records are kept, for readers that still use them.
pub(in crate::jobs) const MAX_KEPT_RUNS: usize = 100;

impl Attempt<'_> {
    /// Performs steps 2 to 5 of the resample job. Returns false if the run must start over.
    pub(in crate::jobs) async fn publish(
        &self,
        run: u64,
        published: Option<&Publication>,
        plan: &mut Plan,
        report: &mut Report,
        damaged: &mut DamagedFiles,
    ) -> Result<bool, JobError> {
        let tables = self.open_tables(published).await?;
        failpoint::reach("before-intent");
        self.write_intent(run, plan).await?;
        failpoint::reach("after-intent");
        let files = Arc::new(RollupFiles::new(tables, plan.dirty.clone()));
        let totals = match self.compute(plan, &files, damaged).await {
            Ok(Some(totals)) => totals,
            unfinished => {
                files.discard().await;
                return unfinished.map(|_| false);
            }
        };
        debug!("all dates are computed");
        let versions = self.commit_tables(run, &files, report).await?;
        totals.record(&mut plan.ledger, report);
        self.write_records(run, &plan.ledger, report).await?;
        let publication = self.publish_versions(run, versions, published).await?;
        self.clean_up(&publication).await;
        Ok(true)
    }

    /// Opens the three tables at their published versions, finest first.
    async fn open_tables(&self, published: Option<&Publication>) -> Result<[Table; 3], JobError> {
        let mut tables = Vec::new();
        for resolution in Resolution::ALL {
            let before = published
                .filter(|_| !self.lost.contains(&resolution))
                .map(|it| it.versions.get(resolution));
            let job = self.job;
            let table = Table::open_for_change(&job.lake, &job.schema, resolution, before).await;
            tables.push(table.map_err(table_error(resolution))?);
        }
        <[Table; 3]>::try_from(tables).map_err(|_| JobError::FilesChanging)
    }

    async fn write_intent(&self, run: u64, plan: &Plan) -> Result<(), JobError> {
        let intent = Intent {
            run,
            started_at: clock::now(),
            dates: plan.dirty.clone(),
            files: self
                .inputs_on(&plan.ledger, &plan.dirty)
                .into_iter()
                .map(|input| (input.key, input.file.etag))
                .collect(),
        };
        self.runs.write_intent(&intent).await?;
        Ok(())
    }

    /// Commits the changes of the three tables. Returns their new versions, finest first.
    async fn commit_tables(
        &self,
        run: u64,
        files: &RollupFiles,
        report: &mut Report,
    ) -> Result<[u64; 3], JobError> {
        let changes = files.take_changes();
        for (resolution, change) in Resolution::ALL.iter().zip(&changes) {
            report
                .rows
                .insert(resolution.table().to_owned(), change.rows);
        }
        let mut versions = Vec::new();
        for ((mut table, change), resolution) in
            files.tables().into_iter().zip(changes).zip(Resolution::ALL)
        {
            self.check_lease()?;
            failpoint::reach(&format!("before-commit-{}", resolution.table()));
            let change = Change {
                add: change.add,
                remove: change.remove,
                ..Change::default()
            };
            let version = table.commit(run, change).await;
            versions.push(version.map_err(table_error(resolution))?);
            failpoint::reach(&format!("after-commit-{}", resolution.table()));
        }
        Ok([versions[0], versions[1], versions[2]])
    }

    /// Writes the ledger and the report of the run.
    async fn write_records(
        &self,
        run: u64,
        ledger: &Ledger,
        report: &mut Report,
    ) -> Result<(), JobError> {
        failpoint::reach("before-ledger");
        self.runs.write_ledger(run, ledger).await?;
        failpoint::reach("after-ledger");
        report.run = Some(run);
        report.outcome = Outcome::Published;
        report.seconds = self.start.watch.seconds();
        report.set_quarantined(ledger);
        self.runs.write_record(run, report).await?;
        Ok(())
    }

    /// Publishes the versions of the three tables together.
    async fn publish_versions(
        &self,
        run: u64,
        versions: [u64; 3],
        published: Option<&Publication>,
    ) -> Result<Publication, JobError> {
        self.check_lease()?;
        failpoint::reach("before-publish");
        let mut publication = Publication::new(run, versions, clock::now());
        if let Some(before) = published {
            publication.copy_expiry_state(before);
        }
        self.runs.publish(&publication).await?;
        failpoint::reach("after-publish");
        info!(
            previous = published.map(|publication| publication.run),
            "published"
        );
        Ok(publication)
    }

    /// Writes the checkpoints that are due, and removes old records of runs. An error is only logged.
    async fn clean_up(&self, publication: &Publication) {
        for resolution in Resolution::ALL {
            let version = publication.versions.get(resolution);
            let (lake, schema) = (&self.job.lake, &self.job.schema);
            let written = Table::checkpoint_if_due(lake, schema, resolution, version).await;
            if let Err(error) = written {
                // Nothing depends on the checkpoint; a later run writes the next one.
                warn!(%error, "cannot write a checkpoint of {}", resolution.table());
            }
        }
        let since = clock::now() - self.job.settings.maintain.grace;
        if let Err(error) = self.runs.clean_up(MAX_KEPT_RUNS, since).await {
            // Nothing depends on the clean-up; the next run tries again.
            warn!(%error, "cannot remove old run records");
        }
        failpoint::reach("after-cleanup");
    }

    /// Fails if another run took over the lease.
    fn check_lease(&self) -> Result<(), JobError> {
        if let Some(lease) = self.start.lease {
            lease.check()?;
        }
        Ok(())
    }
}
