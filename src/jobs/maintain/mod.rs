//! The upkeep of a lake: what has expired goes, small files become larger ones, and what nobody needs any more is deleted.
//!
//! 1. Take the lease of the resample job; look at what is published.
//! 2. Write down that a run has begun (the intent, without dates: no row is computed).
//! 3. Copy expired raw files to the archive; write the new files of the tables and of the archive.
//! 4. Commit each table once, the archive's first, with the run's number.
//! 5. Write the ledger, and publish the versions as one.
//! 6. Delete what no version in use names, and raw files that expired longer ago than the grace.
//!
//! A run that dies before it publishes is undone by the next run's commits ([`Table::open_for_change`]); after that, the next
//! upkeep does the rest of step 6. What came back from the archive (`restore`) goes the same way.
//!
//! [`Table::open_for_change`]: crate::lake::table::Table::open_for_change

mod compact;
mod contents;
mod merge;
mod raw;
mod report;
mod restore;
mod retention;
mod round;
mod sweep;
mod tables;

use chrono::{SecondsFormat, Utc};
use tracing::{Instrument, info_span};

pub use self::contents::{ArchiveContents, HeldDates, InArchive};
pub use self::report::{Compacted, Expired, Fate, MaintainOutcome, MaintainReport, Swept};
pub use self::restore::{Left, LeftInArchive, Restore, RestoreOutcome, RestoreReport};
use self::round::{Changes, Round};
use self::sweep::Sweep;
use self::tables::TablePlan;
use super::resample::{Job, JobError};
use crate::clock::{self, Stopwatch};
use crate::lake::failpoint;
use crate::lake::lease::{Holder, Lease};
use crate::lake::raw::RawFile;

/// What to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaintainOptions {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What time it is.
fn now() -> chrono::DateTime<Utc> {
    failpoint::now().unwrap_or_else(clock::now)
}

impl Job {
    /// Puts the lake in order.
    pub async fn maintain(&self, options: &MaintainOptions) -> Result<MaintainReport, JobError> {
        let watch = Stopwatch::start();
        let mut report = MaintainReport {
            run: None,
            outcome: MaintainOutcome::NothingPublished,
            started_at: clock::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            expired: Vec::new(),
            compacted: Vec::new(),
            swept: Swept::default(),
            notes: Vec::new(),
            seconds: 0.0,
        };
        self.under_lease("maintain", options.dry_run, async |lease| {
            self.maintain_under(lease, options, &watch, &mut report)
                .await
        })
        .await?;
        report.seconds = watch.seconds();
        Ok(report)
    }

    /// Does `work` under the lake's lease, as the holder `name`; a dry run changes nothing, and takes none.
    async fn under_lease(
        &self,
        name: &str,
        dry_run: bool,
        work: impl AsyncFnOnce(Option<&Lease>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let lease = match dry_run {
            true => None,
            false => Some(Lease::take(&self.lake, Holder::of_process(name)).await?),
        };
        failpoint::reach("lease-taken");
        let done = work(lease.as_ref()).await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        done
    }

    async fn maintain_under(
        &self,
        lease: Option<&Lease>,
        options: &MaintainOptions,
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        let now = now();
        let Some(mut round) = Round::begin(self, lease, now).await? else {
            return Ok(());
        };
        round.forget_unarchived().await?;
        let expired = round.plan_raw(report).await?;
        let plans = round.plan_tables(report);
        let is_something = round.forget_damaged(report)
            || !expired.is_empty()
            || plans.iter().any(|plan| !plan.is_empty());
        if is_something && !options.dry_run {
            if plans.iter().any(TablePlan::needs_archive) {
                round.found_archive().await?;
            }
            let run = round.runs.next_run_number().await?;
            round
                .carry_out(run, plans, expired, watch, report)
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
            (false, None) if report.swept == Swept::default() => MaintainOutcome::NothingToDo,
            (false, _) => MaintainOutcome::Maintained,
        };
        Ok(())
    }
}

impl Round<'_> {
    /// Steps 2 to 5.
    async fn carry_out(
        &mut self,
        run: u64,
        plans: Vec<TablePlan>,
        expired: Vec<RawFile>,
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        self.write_intent(run).await?;
        self.retire_raw(expired).await?;
        let minutes_from = self.minutes_from(&plans);
        let mut changes = Changes::default();
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
