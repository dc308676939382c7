//! One maintenance of a lake, from the lease to the report.

use chrono::SecondsFormat;
use tracing::{Instrument, info_span};

use super::maintenance_run::{MaintenanceChanges, MaintenanceRun};
use super::options::MaintainOptions;
use super::report::{MaintainOutcome, MaintainReport, SweepReport};
use super::sweep::Sweep;
use super::tables::TablePlan;
use super::time::now;
use crate::clock::{self, Stopwatch};
use crate::jobs::error::JobError;
use crate::jobs::resample::job::Job;
use crate::lake::raw::RawFile;
use crate::lake::records::lease::{Holder, Lease};
use crate::lake::storage::failpoint;

impl Job {
    /// Runs the maintenance of the lake once.
    pub async fn maintain(&self, options: &MaintainOptions) -> Result<MaintainReport, JobError> {
        let watch = Stopwatch::start();
        let mut report = MaintainReport {
            run: None,
            outcome: MaintainOutcome::NothingPublished,
            started_at: clock::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            expired: Vec::new(),
            compacted: Vec::new(),
            swept: SweepReport::default(),
            notes: Vec::new(),
            seconds: 0.0,
        };
        self.with_lease("maintain", options.dry_run, async |lease| {
            self.maintain_with_lease(lease, options, &watch, &mut report)
                .await
        })
        .await?;
        report.seconds = watch.seconds();
        Ok(report)
    }

    /// Runs `work` with the lake's lease held as `name`. A dry run changes nothing and takes no lease.
    pub(super) async fn with_lease(
        &self,
        name: &str,
        dry_run: bool,
        work: impl AsyncFnOnce(Option<&Lease>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let lease = match dry_run {
            true => None,
            false => Some(Lease::take(&self.lake, Holder::for_process(name)).await?),
        };
        failpoint::reach("lease-taken");
        let done = work(lease.as_ref()).await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        done.map_err(|error| error.with_location(&self.lake, &self.raw))
    }

    async fn maintain_with_lease(
        &self,
        lease: Option<&Lease>,
        options: &MaintainOptions,
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        let now = now();
        let Some(mut round) = MaintenanceRun::open(self, lease, now).await? else {
            return Ok(());
        };
        round.prune_unarchived().await?;
        let expired = round.plan_raw(report).await?;
        let plans = round.plan_tables(report);
        let is_something = round.remove_damaged(report)
            || !expired.is_empty()
            || plans.iter().any(|plan| !plan.is_empty());
        if is_something && !options.dry_run {
            if plans.iter().any(TablePlan::has_archive_changes) {
                round.create_archive().await?;
                round.adopt_columns(false)?;
            }
            let run = round.runs.next_run_number().await?;
            round
                .execute(run, plans, expired, watch, report)
                .instrument(info_span!("maintain", run))
                .await?;
        }
        let sweep = Sweep {
            job: self,
            lease,
            runs: &round.runs,
            ledger: &round.ledger,
            now,
            since: now - self.settings.maintain.grace,
            dry_run: options.dry_run,
        };
        report.swept = sweep.run().await?;
        report.outcome = match (options.dry_run, report.run) {
            (true, _) => MaintainOutcome::DryRun,
            (false, None) if report.swept == SweepReport::default() => MaintainOutcome::NothingToDo,
            (false, _) => MaintainOutcome::Maintained,
        };
        Ok(())
    }
}

impl MaintenanceRun<'_> {
    /// Performs steps 2 to 5.
    async fn execute(
        &mut self,
        run: u64,
        plans: Vec<TablePlan>,
        expired: Vec<RawFile>,
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        self.write_intent(run).await?;
        self.expire_raw(expired).await?;
        let minutes_from = self.minutes_from(&plans);
        let mut changes = MaintenanceChanges::default();
        let written = self.write_tables(plans, &mut changes, report).await;
        if let Err(error) = written {
            self.discard(&changes).await;
            return Err(error);
        }
        report.run = Some(run);
        report.outcome = MaintainOutcome::Maintained;
        report.seconds = watch.seconds();
        let record = || report.clone();
        self.publish(run, changes, minutes_from, record).await
    }
}
