//! The upkeep of a lake: small files become larger ones, and what nobody needs any more goes.
//!
//! 1. Take the lease of the resample job; look at what is published.
//! 2. Write down that a run has begun (the intent, without dates: no row changes).
//! 3. Write the new files, commit each table once, with the run's number.
//! 4. Write the ledger, and publish the versions as one.
//! 5. Delete what no version in use names.
//!
//! A run that dies before it publishes is undone by the next run's commits ([`Table::open_for_change`]); after that, the next
//! upkeep does the rest of step 5.

mod compact;
mod merge;
mod report;
mod sweep;

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use tracing::{Instrument, info, info_span};

use self::compact::Group;
use self::merge::{Source, merge};
pub use self::report::{Compacted, MaintainOutcome, MaintainReport, Swept};
use self::sweep::Sweep;
use super::plan::Ledger;
use super::resample::{Job, JobError, table_failed};
use crate::clock::{self, Stopwatch};
use crate::lake::failpoint;
use crate::lake::lease::{Holder, Lease};
use crate::lake::runs::{Intent, Publication, Runs};
use crate::lake::table::{Change, Table};
use crate::model::{DateSet, Resolution};

/// What to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaintainOptions {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A published lake that is to be put in order.
struct Round<'a> {
    job: &'a Job,
    lease: Option<&'a Lease>,
    runs: Runs,
    published: Publication,
    ledger: Ledger,
    /// Finest first.
    tables: Vec<Table>,
    now: DateTime<Utc>,
}

/// What is to be done to one table.
struct TablePlan {
    groups: Vec<Group>,
}

impl Job {
    /// Puts the lake in order.
    pub async fn maintain(&self, options: &MaintainOptions) -> Result<MaintainReport, JobError> {
        let watch = Stopwatch::start();
        let started_at = clock::now();
        let lease = match options.dry_run {
            true => None,
            false => Some(Lease::take(&self.lake, Holder::of_process("maintain")).await?),
        };
        failpoint::reach("lease-taken");
        let mut report = MaintainReport {
            run: None,
            outcome: MaintainOutcome::NothingPublished,
            started_at: started_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            compacted: Vec::new(),
            swept: Swept::default(),
            notes: Vec::new(),
            seconds: 0.0,
        };
        let done = self
            .maintain_under(lease.as_ref(), options, &watch, &mut report)
            .await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        done?;
        report.seconds = watch.seconds();
        Ok(report)
    }

    async fn maintain_under(
        &self,
        lease: Option<&Lease>,
        options: &MaintainOptions,
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        let now = failpoint::now().unwrap_or_else(clock::now);
        let Some(mut round) = Round::begin(self, lease, now).await? else {
            return Ok(());
        };
        let plans = round.plan(report);
        if !options.dry_run && plans.iter().any(|plan| !plan.groups.is_empty()) {
            let run = round.runs.next_run_number().await?;
            round
                .carry_out(run, plans, watch, report)
                .instrument(info_span!("maintain", run))
                .await?;
        }
        let sweep = Sweep {
            lake: &self.lake,
            runs: &round.runs,
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

impl<'a> Round<'a> {
    /// Opens what is published; none if nothing ever was.
    async fn begin(
        job: &'a Job,
        lease: Option<&'a Lease>,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, JobError> {
        let runs = Runs::open(&job.lake);
        let Some(published) = runs.latest_publication().await? else {
            return Ok(None);
        };
        let mut ledger: Ledger = runs.read_ledger(published.run).await?;
        // This run's number is greater than theirs: what they left undone is not to be forgotten.
        for intent in runs.unfinished_intents(published.run).await? {
            ledger.due.extend(&intent.dates);
        }
        let mut tables = Vec::new();
        for resolution in Resolution::ALL {
            let before = (published.run, published.versions.of(resolution));
            let table = Table::open_for_change(&job.lake, resolution, Some(before)).await;
            tables.push(table.map_err(table_failed(resolution))?);
        }
        Ok(Some(Self {
            job,
            lease,
            runs,
            published,
            ledger,
            tables,
            now,
        }))
    }

    fn plan(&self, report: &mut MaintainReport) -> Vec<TablePlan> {
        let target = self.job.settings.maintain.target_file_size;
        let mut plans = Vec::new();
        for table in &self.tables {
            let groups = compact::groups(table.files(), target, &BTreeSet::new());
            let files = || groups.iter().flatten();
            let partitions: BTreeSet<_> = files().map(|file| &file.partition).collect();
            if !groups.is_empty() {
                report.compacted.push(Compacted {
                    table: table.resolution().table().to_owned(),
                    partitions: partitions.len(),
                    files_before: files().count(),
                    files_after: groups.len(),
                    rows: files().filter_map(|file| file.rows).sum(),
                    bytes_before: files().map(|file| file.size).sum(),
                    bytes_after: None,
                });
            }
            plans.push(TablePlan { groups });
        }
        plans
    }

    /// Steps 2 to 4.
    async fn carry_out(
        &mut self,
        run: u64,
        plans: Vec<TablePlan>,
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        failpoint::reach("before-intent");
        let intent = Intent {
            run,
            started_at: clock::now(),
            dates: DateSet::default(),
            files: Vec::new(),
        };
        self.runs.write_intent(&intent).await?;
        failpoint::reach("after-intent");
        let rows = report.compacted.iter().map(|table| table.rows);
        self.job.progress.expect(rows.sum());
        let mut changes = Vec::new();
        let mut written = Ok(());
        for (table, plan) in self.tables.iter().zip(plans) {
            let mut change = Change::default();
            written = self.compact(table, plan, &mut change).await;
            changes.push(change);
            if written.is_err() {
                break;
            }
        }
        if written.is_err() {
            for (table, change) in self.tables.iter().zip(&changes) {
                table.delete_uncommitted(&change.merged_into).await;
            }
            return written;
        }
        for compacted in &mut report.compacted {
            let change = self.tables.iter().zip(&changes);
            let mut change =
                change.filter(|(table, _)| table.resolution().table() == compacted.table);
            compacted.bytes_after = change
                .next()
                .map(|(_, change)| change.merged_into.iter().map(|file| file.size).sum());
        }
        let versions = self.commit(run, changes).await?;
        self.publish(run, versions, watch, report).await
    }

    async fn compact(
        &self,
        table: &Table,
        plan: TablePlan,
        change: &mut Change,
    ) -> Result<(), JobError> {
        let progress = &self.job.progress;
        for group in plan.groups {
            let sources: Vec<Source<'_>> = group
                .into_iter()
                .map(|file| Source {
                    table,
                    file,
                    without: DateSet::default(),
                })
                .collect();
            let Some(first) = sources.first() else {
                continue;
            };
            let writer = table.writer(first.file.partition.clone());
            let written = merge(&sources, writer, &|rows| progress.read(rows)).await?;
            change.merged_into.extend(written);
            change
                .merged
                .extend(sources.into_iter().map(|source| source.file));
        }
        Ok(())
    }

    /// Commits each table once; gives their versions.
    async fn commit(&mut self, run: u64, changes: Vec<Change>) -> Result<[u64; 3], JobError> {
        let mut versions = [0; 3];
        for ((table, change), version) in self.tables.iter_mut().zip(changes).zip(&mut versions) {
            if let Some(lease) = self.lease {
                lease.check()?;
            }
            let resolution = table.resolution();
            failpoint::reach(&format!("before-commit-{}", resolution.table()));
            *version = table
                .commit(run, change)
                .await
                .map_err(table_failed(resolution))?;
            failpoint::reach(&format!("after-commit-{}", resolution.table()));
        }
        Ok(versions)
    }

    async fn publish(
        &self,
        run: u64,
        versions: [u64; 3],
        watch: &Stopwatch,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        failpoint::reach("before-ledger");
        self.runs.write_ledger(run, &self.ledger).await?;
        failpoint::reach("after-ledger");
        report.run = Some(run);
        report.outcome = MaintainOutcome::Maintained;
        report.seconds = watch.seconds();
        self.runs.write_maintenance(run, report).await?;
        if let Some(lease) = self.lease {
            lease.check()?;
        }
        failpoint::reach("before-publish");
        let publication = Publication::new(run, versions, self.now);
        self.runs.publish(&publication).await?;
        failpoint::reach("after-publish");
        info!(previous = self.published.run, "published");
        Ok(())
    }
}
