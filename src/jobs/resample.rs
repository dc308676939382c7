//! The resample job: brings the three tables up to date with the raw files, exactly once.
//!
//! 1. Take the lease; list raw, compare it with the ledger of the last published run, look into what is new.
//! 2. Write down what will be done (the intent): should the run die, the next one computes those dates again.
//! 3. Compute the dirty dates from raw, cell by cell, into new data files.
//! 4. Commit minute, hour and day, each once and each with the run's number.
//! 5. Write the ledger, and publish the three versions as one: from here on readers see them.
//!
//! A run that died is not continued but superseded: its raw files may be gone, and recomputing its dates
//! from what is there now is right whatever it had committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::plan::{Cells, Changes, KnownFile, Ledger, Plan, Scope, compare, plan};
use super::report::{DateSpan, FileCounts, LeftOutOfFile, Outcome, ReadingCounts, Report};
use super::rollup_files::{FilesError, RollupFiles, TableChange};
use super::spec::ResampleSpec;
use crate::clock::{self, Stopwatch};
use crate::config::Settings;
use crate::engine::{RawScanExec, batch_context};
use crate::lake::lease::{Holder, Lease, LeaseError};
use crate::lake::raw::{ColumnNames, FileFault, RawError, RawFile, RawFormat, list, survey};
use crate::lake::runs::{Intent, Publication, Runs, RunsError};
use crate::lake::table::{Table, TableError};
use crate::lake::{Store, failpoint};
use crate::model::{DateSet, Day, Resolution, Window, day_of};
use crate::resample::{Cell, FileTask, LeftOut, MinuteRow, Request, ResampleExec};

/// Footers that are read at once.
const SURVEYS_AT_ONCE: usize = 16;
/// How many published runs are kept, for readers that still use them.
const RUNS_KEPT: usize = 100;
/// How often a run starts over because raw files changed under it, or turned out to be damaged.
const ATTEMPTS: usize = 20;
/// The last instant that a minute number can name in 32 bits is in the year 6053.
const LAST_TIME: i64 = 127_174_492_800_000_000;

/// Why a run failed. Everything that it had written is either unseen or will be replaced by the next run.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another run is at work, or took the lease over.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The raw folder cannot be listed.
    #[error("the raw files cannot be listed")]
    Raw(#[from] RawError),
    /// The store of raw files fails.
    #[error("raw files cannot be read")]
    RawStore(#[source] FileFault),
    /// The run records cannot be read or written.
    #[error("the record of runs cannot be used")]
    Runs(#[from] RunsError),
    /// A table cannot be read or committed to.
    #[error("table {table} cannot be used")]
    Table {
        /// Its name.
        table: &'static str,
        /// What is wrong.
        source: Box<TableError>,
    },
    /// The rollups cannot be written.
    #[error("the rollups cannot be written")]
    Files(#[from] FilesError),
    /// The computation failed.
    #[error("the rollups cannot be computed")]
    Compute(#[from] DataFusionError),
    /// Raw files change faster than they can be read.
    #[error(
        "raw files changed while they were read, {ATTEMPTS} times; write files under another name and rename them when they are complete"
    )]
    Restless,
}

/// What to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Compute everything again.
    pub full: bool,
    /// Only these dates; others stay due.
    pub dates: Option<(Day, Day)>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Is told how far a run is.
pub trait Progress: Send + Sync {
    /// So many readings will be read, about.
    fn expect(&self, readings: u64);
    /// So many more were read.
    fn read(&self, readings: u64);
}

/// The job, with what it needs.
pub struct Job {
    /// The lake.
    pub lake: Store,
    /// The raw files.
    pub raw: Store,
    /// The settings.
    pub settings: Settings,
    /// What the operator declares.
    pub spec: ResampleSpec,
    /// Where progress goes.
    pub progress: Arc<dyn Progress>,
}

/// What everything of one attempt needs.
struct Attempt<'a> {
    job: &'a Job,
    lease: Option<&'a Lease>,
    runs: Runs,
    format: Arc<RawFormat>,
    plausible: Window,
    listed: Vec<RawFile>,
}

/// What came of an attempt.
enum Attempted {
    Done(Box<Report>),
    /// A file turned out to be at fault after other results were made with it, or changed.
    Again,
}

/// What the computation gathered about files and readings.
#[derive(Default)]
struct Gathered {
    valid: u64,
    used: u64,
    left_out: BTreeMap<String, LeftOut>,
    /// Files that were read in a cell that is done.
    read: BTreeSet<String>,
}

fn table_failed(resolution: Resolution) -> impl Fn(TableError) -> JobError {
    move |source| JobError::Table {
        table: resolution.table(),
        source: Box::new(source),
    }
}

impl Job {
    /// Runs the job once.
    pub async fn run(&self, options: &Options) -> Result<Report, JobError> {
        let watch = Stopwatch::start();
        let started_at = clock::now();
        let lease = if options.dry_run {
            None
        } else {
            Some(Lease::take(&self.lake, Holder::of_process("resample")).await?)
        };
        failpoint::reach("lease-taken");
        let mut damaged = BTreeMap::new();
        let mut result = Err(JobError::Restless);
        for _ in 0..ATTEMPTS {
            match self
                .attempt(options, lease.as_ref(), &mut damaged, &watch, started_at)
                .await
            {
                Ok(Attempted::Again) => continue,
                Ok(Attempted::Done(report)) => result = Ok(*report),
                Err(error) => result = Err(error),
            }
            break;
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        result
    }

    async fn attempt(
        &self,
        options: &Options,
        lease: Option<&Lease>,
        damaged: &mut BTreeMap<(String, String), String>,
        watch: &Stopwatch,
        started_at: chrono::DateTime<chrono::Utc>,
    ) -> Result<Attempted, JobError> {
        let runs = Runs::open(&self.lake);
        let published = runs.latest_publication().await?;
        let ledger: Ledger = match &published {
            Some(publication) => runs.read_ledger(publication.run).await?,
            None => Ledger::default(),
        };
        let plausible = self.settings.resample.plausible(clock::now());
        let plausible = Window {
            start: *plausible.start(),
            end: plausible.end().saturating_add(1).min(LAST_TIME),
        };
        let settings = self.fingerprint();
        let full = options.full || (published.is_some() && ledger.settings != settings);
        let attempt = Attempt {
            job: self,
            lease,
            runs,
            format: Arc::new(self.format(plausible)),
            plausible,
            listed: list(&self.raw).await?,
        };
        let mut changes = compare(&ledger, &attempt.listed, full);
        // Known files that this run found to be damaged: their dates are computed again without them.
        let found = attempt
            .listed
            .iter()
            .filter(|file| damaged.contains_key(&(file.path.clone(), file.etag.clone())));
        let found: Vec<RawFile> = found
            .filter(|file| !changes.fresh.iter().any(|fresh| fresh.path == file.path))
            .cloned()
            .collect();
        changes.fresh.extend(found);
        let surveyed = attempt.survey(&changes, damaged).await?;
        let unfinished = attempt
            .runs
            .unfinished_intents(published.as_ref().map_or(0, |publication| publication.run))
            .await?;
        let mut scope = Scope {
            dates: options.dates,
            last_plausible: day_of(plausible.end.saturating_sub(1)),
            unfinished: DateSet::default(),
            in_tables: DateSet::default(),
        };
        for intent in &unfinished {
            scope.unfinished.extend(&intent.dates);
        }
        if full && let Some(publication) = &published {
            let table = Table::open_at(
                &self.lake,
                Resolution::Minute,
                publication.versions.data_min,
            );
            let table = table.await.map_err(table_failed(Resolution::Minute))?;
            scope.in_tables = table
                .files()
                .iter()
                .filter_map(|file| file.partition.days())
                .map(|days| days.0)
                .collect();
        }
        let mut plan = plan(&ledger, &changes, surveyed, &scope);
        plan.ledger.settings = settings;
        let mut report = Report {
            run: None,
            outcome: Outcome::NothingToDo,
            started_at: started_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            full,
            dates: DateSpan::from(&plan.dirty),
            files: FileCounts {
                known: plan.ledger.files.len(),
                new: changes.new,
                changed: changes.fresh.len()
                    - changes
                        .fresh
                        .iter()
                        .filter(|file| !ledger.files.contains_key(&file.path))
                        .count(),
                removed: changes.removed.len(),
                quarantined: 0,
            },
            readings: ReadingCounts::default(),
            rows: BTreeMap::new(),
            seconds: 0.0,
            quarantined: Vec::new(),
            left_out: Vec::new(),
            would_read: Vec::new(),
            estimated_readings: None,
        };
        if full {
            // Computed again is not changed: say what really differs.
            let really = compare(&ledger, &attempt.listed, false);
            report.files.changed = really.fresh.len() - really.new;
        }
        if options.dry_run {
            report.outcome = Outcome::DryRun;
            report.would_read = Report::would_read(&attempt.inputs_of(&plan.ledger, &plan.dirty));
            report.estimated_readings = Some(estimate(&plan.ledger, &plan.dirty));
        } else if !plan.dirty.is_empty() || published.is_none() || plan.ledger != ledger {
            let number = attempt.runs.next_run_number().await?;
            match attempt
                .publish(number, published, &mut plan, &mut report, damaged, watch)
                .await?
            {
                Some(()) => report.run = Some(number),
                None => return Ok(Attempted::Again),
            }
        }
        report.quarantined = Report::quarantine_of(&plan.ledger);
        report.files.quarantined = report.quarantined.len();
        report.seconds = watch.seconds();
        Ok(Attempted::Done(Box::new(report)))
    }

    fn format(&self, plausible: Window) -> RawFormat {
        let columns = &self.spec.columns;
        RawFormat {
            columns: ColumnNames {
                id: columns.id.clone(),
                timestamp: columns.timestamp.clone(),
                value: columns.value.clone(),
            },
            timezone: self.settings.resample.timezone,
            plausible,
        }
    }

    /// The settings that decide the results. The plausible range counts as it is written: `+1d` moves with
    /// the clock, and what it uncovers stays due (see `plan`).
    fn fingerprint(&self) -> String {
        let resample = &self.settings.resample;
        let columns = &self.spec.columns;
        format!(
            "zone={} earliest={:?} latest={:?} columns={:?}/{:?}/{:?} raw={}",
            resample.timezone,
            resample.earliest,
            resample.latest,
            columns.id,
            columns.timestamp,
            columns.value,
            self.raw
        )
    }
}

impl Attempt<'_> {
    /// Looks into new and changed files. A file at fault is quarantined; a store that fails, fails the run.
    async fn survey(
        &self,
        changes: &Changes,
        damaged: &BTreeMap<(String, String), String>,
    ) -> Result<BTreeMap<String, KnownFile>, JobError> {
        // Times ahead of the clock belong to dates too: those stay due until their time comes.
        let ahead = Arc::new(RawFormat {
            plausible: Window {
                end: LAST_TIME,
                ..self.plausible
            },
            ..(*self.format).clone()
        });
        stream::iter(changes.fresh.iter().cloned())
            .map(|file| {
                let ahead = Arc::clone(&ahead);
                let known_damage = damaged
                    .get(&(file.path.clone(), file.etag.clone()))
                    .cloned();
                async move {
                    let mut known = KnownFile {
                        etag: file.etag.clone(),
                        size: file.size,
                        ..KnownFile::default()
                    };
                    let quarantined = match known_damage {
                        Some(reason) => Some(reason),
                        None => match survey(&self.job.raw, &file, &ahead).await {
                            Ok(survey) => {
                                let later = survey
                                    .dates
                                    .last()
                                    .is_some_and(|last| last >= day_of(self.plausible.end - 1));
                                known.rows = survey.rows;
                                known.minutes = survey.minutes;
                                known.untimed = survey.irregular || later;
                                known.due = survey.dates.clone();
                                known.dates = survey.dates;
                                None
                            }
                            Err(fault @ FileFault::Store { .. }) => {
                                return Err(JobError::RawStore(fault));
                            }
                            Err(fault) => {
                                if matches!(fault, FileFault::Refused { .. }) {
                                    // No version of it is known: the next run tries again.
                                    known.etag.clear();
                                }
                                Some(fault.to_string())
                            }
                        },
                    };
                    known.quarantined = quarantined;
                    Ok((file.path, known))
                }
            })
            .buffer_unordered(SURVEYS_AT_ONCE)
            .try_collect()
            .await
    }

    /// The listed files that have something to do with `dates`, in the order in which later ones win.
    fn inputs_of(&self, ledger: &Ledger, dates: &DateSet) -> Vec<RawFile> {
        let known = |file: &&RawFile| {
            ledger
                .files
                .get(&file.path)
                .is_some_and(|known| known.quarantined.is_none() && known.dates.intersects(dates))
        };
        self.listed.iter().filter(known).cloned().collect()
    }

    /// Steps 2 to 5. None: start over.
    async fn publish(
        &self,
        run: u64,
        published: Option<Publication>,
        plan: &mut Plan,
        report: &mut Report,
        damaged: &mut BTreeMap<(String, String), String>,
        watch: &Stopwatch,
    ) -> Result<Option<()>, JobError> {
        let mut tables = Vec::new();
        for resolution in Resolution::ALL {
            tables.push(
                Table::open_or_create(&self.job.lake, resolution)
                    .await
                    .map_err(table_failed(resolution))?,
            );
        }
        let Ok(tables) = <[Table; 3]>::try_from(tables) else {
            return Err(JobError::Restless);
        };
        failpoint::reach("before-intent");
        let intent = Intent {
            run,
            started_at: clock::now(),
            dates: plan.dirty.clone(),
            files: self
                .inputs_of(&plan.ledger, &plan.dirty)
                .into_iter()
                .map(|file| (file.path, file.etag))
                .collect(),
        };
        self.runs.write_intent(&intent).await?;
        failpoint::reach("after-intent");
        let files = Arc::new(RollupFiles::new(tables, plan.dirty.clone()));
        let mut hours = TableChange::default();
        let mut days = TableChange::default();
        let mut gathered = Gathered::default();
        let computed = self
            .compute(plan, &files, &mut hours, &mut days, &mut gathered, damaged)
            .await;
        if !matches!(computed, Ok(true)) {
            files.discard(&[&hours, &days]).await;
            computed?;
            return Ok(None);
        }
        let minutes = files.minute_change();
        for (resolution, change) in Resolution::ALL.iter().zip([&minutes, &hours, &days]) {
            report
                .rows
                .insert(resolution.table().to_owned(), change.rows);
        }
        let mut versions = Vec::new();
        for ((mut table, change), resolution) in files
            .tables()
            .into_iter()
            .zip([minutes, hours, days])
            .zip(Resolution::ALL)
        {
            if let Some(lease) = self.lease {
                lease.check()?;
            }
            failpoint::reach(&format!("before-commit-{}", resolution.table()));
            let changes_something = !change.add.is_empty() || !change.remove.is_empty();
            versions.push(if changes_something {
                table
                    .commit(run, change.add, change.remove)
                    .await
                    .map_err(table_failed(resolution))?
            } else {
                table.version()
            });
            failpoint::reach(&format!("after-commit-{}", resolution.table()));
        }
        self.account(plan, report, gathered);
        failpoint::reach("before-ledger");
        self.runs.write_ledger(run, &plan.ledger).await?;
        failpoint::reach("after-ledger");
        report.run = Some(run);
        report.outcome = Outcome::Published;
        report.seconds = watch.seconds();
        report.quarantined = Report::quarantine_of(&plan.ledger);
        report.files.quarantined = report.quarantined.len();
        self.runs.write_record(run, report).await?;
        if let Some(lease) = self.lease {
            lease.check()?;
        }
        failpoint::reach("before-publish");
        let publication =
            Publication::new(run, [versions[0], versions[1], versions[2]], clock::now());
        self.runs.publish(&publication).await?;
        failpoint::reach("after-publish");
        info!(
            run,
            previous = published.map(|publication| publication.run),
            "published"
        );
        if let Err(error) = self.runs.clean_up(RUNS_KEPT).await {
            // Nothing depends on it; the next run tries again.
            warn!(%error, "old run records could not be removed");
        }
        failpoint::reach("after-cleanup");
        Ok(Some(()))
    }

    /// Computes the dirty dates, cell by cell. False: start over.
    async fn compute(
        &self,
        plan: &mut Plan,
        files: &Arc<RollupFiles>,
        hours: &mut TableChange,
        days: &mut TableChange,
        gathered: &mut Gathered,
        damaged: &mut BTreeMap<(String, String), String>,
    ) -> Result<bool, JobError> {
        let budget = failpoint::memory().unwrap_or(self.job.settings.resample.memory / 100 * 55);
        let rows = (budget as usize / size_of::<MinuteRow>() * 9 / 10).max(1);
        let usable = plan
            .ledger
            .files
            .values()
            .filter(|file| file.quarantined.is_none());
        let mut cells = Cells::new(&plan.dirty, usable, rows);
        self.job
            .progress
            .expect(estimate(&plan.ledger, &plan.dirty));
        let mut unwritten = [
            files.dirty_partitions(Resolution::Hour),
            files.dirty_partitions(Resolution::Day),
        ];
        // Readings without a plausible time are on no date: they are counted along with the first cell.
        let mut untimed = true;
        let mut next = cells.next();
        if next.is_none() && plan.ledger.files.values().any(|file| file.untimed) {
            // No date to compute, but files to count: an empty cell reads them.
            next = Some(Cell::days(0, -1));
        }
        while let Some(cell) = next {
            let mut unlimited = false;
            loop {
                let context = batch_context(
                    if unlimited {
                        None
                    } else {
                        Some(budget as usize)
                    },
                    self.job.settings.resample.threads,
                )?;
                match self
                    .compute_cell(
                        plan,
                        cell,
                        untimed,
                        files,
                        gathered,
                        damaged,
                        context,
                        budget as usize,
                    )
                    .await?
                {
                    CellDone::Computed(minutes) => {
                        cells.learn(&cell, minutes);
                        untimed = false;
                        break;
                    }
                    CellDone::TooLarge(median) if !unlimited => match cell.split(median) {
                        Some(parts) => {
                            cells.retry(parts);
                            break;
                        }
                        None => {
                            warn!(
                                "one asset's readings of one date do not fit into resample.memory: going beyond it"
                            );
                            unlimited = true;
                        }
                    },
                    CellDone::TooLarge(_) | CellDone::Again => return Ok(false),
                }
            }
            for ((resolution, change), unwritten) in [
                (Resolution::Hour, &mut *hours),
                (Resolution::Day, &mut *days),
            ]
            .into_iter()
            .zip(&mut unwritten)
            {
                let complete: DateSet = unwritten
                    .iter()
                    .filter(|&start| {
                        !cells.is_waiting(start, RollupFiles::end_of(resolution, start))
                    })
                    .collect();
                files
                    .write_partitions(resolution, &complete, change)
                    .await?;
                *unwritten = unwritten.difference(&complete);
            }
            next = cells.next();
        }
        Ok(true)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `compute`, with its state"
    )]
    async fn compute_cell(
        &self,
        plan: &mut Plan,
        cell: Cell,
        untimed: bool,
        files: &Arc<RollupFiles>,
        gathered: &mut Gathered,
        damaged: &mut BTreeMap<(String, String), String>,
        context: Arc<TaskContext>,
        budget: usize,
    ) -> Result<CellDone, JobError> {
        let dates = DateSet::range(cell.first, cell.last);
        let mut inputs = Vec::new();
        for file in &self.listed {
            let Some(known) = plan
                .ledger
                .files
                .get(&file.path)
                .filter(|known| known.quarantined.is_none())
            else {
                continue;
            };
            let count_untimed = untimed && known.untimed;
            if count_untimed || known.dates.intersects(&dates) {
                let count_dates = plan
                    .first_time
                    .get(&file.path)
                    .map(|first| first.intersection(&dates))
                    .unwrap_or_default();
                inputs.push((
                    file.clone(),
                    FileTask {
                        count_dates,
                        count_untimed,
                    },
                ));
            }
        }
        let threads = self.job.settings.resample.threads.max(1);
        let progress = Arc::clone(&self.job.progress);
        let scan = RawScanExec::new(
            self.job.raw.clone(),
            Arc::clone(&self.format),
            inputs
                .iter()
                .map(|(file, task)| (file.clone(), task.count_untimed))
                .collect(),
            cell.window(),
        );
        if inputs.is_empty() {
            return Ok(CellDone::Computed(0));
        }
        let request = Request {
            cell,
            plausible: self.plausible,
            tasks: inputs.iter().map(|(_, task)| task.clone()).collect(),
            threads,
            sort_readings: (budget / threads / 3 / 36).max(1_024),
            on_readings: Arc::new(move |readings| progress.read(readings)),
        };
        let exec = Arc::new(ResampleExec::try_new(Arc::new(scan), request)?);
        // A task each: encoding is most of the work, and must not share one core.
        let mut writers = JoinSet::new();
        for partition in 0..threads {
            let (exec, context) = (Arc::clone(&exec), Arc::clone(&context));
            let mut writer = files.minute_writer();
            writers.spawn(async move {
                let mut batches = exec.execute(partition, context)?;
                while let Some(batch) = batches.try_next().await? {
                    writer.take(&batch).await?;
                }
                writer.finish().await?;
                Ok::<_, JobError>(())
            });
        }
        let mut written = Ok(());
        while let Some(joined) = writers.join_next().await {
            let joined = joined.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
            written = written.and(joined);
        }
        let outcome = exec.take_outcome();
        let mut again = false;
        for ((file, _), outcome) in inputs.iter().zip(&outcome.files) {
            let Some(fault) = &outcome.fault else {
                continue;
            };
            match file_fault(fault) {
                Some(FileFault::Changed { .. }) => again = true,
                Some(FileFault::Store { .. }) | None => {
                    return Err(JobError::Compute(DataFusionError::Execution(
                        fault.to_string(),
                    )));
                }
                Some(fault) => {
                    let reason = fault.to_string();
                    // Other results were made with it, or will be by dates that this run does not compute.
                    let known_before = gathered.read.contains(&file.path)
                        || plan.is_used_elsewhere(&file.path)
                        || written.is_err();
                    again |= known_before;
                    damaged.insert((file.path.clone(), file.etag.clone()), reason.clone());
                    if let Some(known) = plan.ledger.files.get_mut(&file.path) {
                        *known = KnownFile {
                            etag: file.etag.clone(),
                            size: file.size,
                            quarantined: Some(reason),
                            ..KnownFile::default()
                        };
                    }
                }
            }
        }
        if again {
            return Ok(CellDone::Again);
        }
        match written {
            Ok(()) => {}
            Err(JobError::Compute(error))
                if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) =>
            {
                return Ok(CellDone::TooLarge(outcome.median_asset));
            }
            Err(error) => return Err(error),
        }
        gathered.used += outcome.used;
        for ((file, _), outcome) in inputs.iter().zip(&outcome.files) {
            gathered.valid += outcome.valid;
            if outcome.left_out.total() > 0 {
                gathered
                    .left_out
                    .entry(file.path.clone())
                    .or_default()
                    .merge(&outcome.left_out);
            }
            gathered.read.insert(file.path.clone());
        }
        Ok(CellDone::Computed(outcome.minutes))
    }

    /// Enters what was counted into the ledger and the report.
    fn account(&self, plan: &mut Plan, report: &mut Report, gathered: Gathered) {
        let mut total = LeftOut::default();
        for file in plan.ledger.files.values_mut() {
            file.untimed = false;
        }
        for (path, left_out) in gathered.left_out {
            total.merge(&left_out);
            if let Some(file) = plan.ledger.files.get_mut(&path) {
                file.left_out.merge(&left_out);
            }
            report.left_out.push(LeftOutOfFile {
                path,
                reasons: left_out,
            });
        }
        report.readings = ReadingCounts {
            read: gathered.valid + total.total(),
            used: gathered.used,
            left_out: total,
            superseded: gathered.valid.saturating_sub(gathered.used),
        };
    }
}

/// What came of a cell.
enum CellDone {
    /// So many minute rows.
    Computed(usize),
    /// Does not fit into memory; the middle one of its assets.
    TooLarge(Option<crate::model::AssetId>),
    Again,
}

/// The fault of a file that is inside an error of the plan.
fn file_fault(error: &DataFusionError) -> Option<&FileFault> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// Readings that computing `dates` reads, about.
fn estimate(ledger: &Ledger, dates: &DateSet) -> u64 {
    let share = |file: &KnownFile| {
        file.rows as f64 * file.dates.intersection(dates).len() as f64
            / file.dates.len().max(1) as f64
    };
    ledger
        .files
        .values()
        .filter(|file| file.quarantined.is_none())
        .map(share)
        .sum::<f64>() as u64
}
