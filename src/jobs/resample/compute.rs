//! Computes the dirty dates of a run, cell by cell, into new data files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::attempt::{Attempt, DamagedFiles};
use super::cells::{Cells, MIN_ROWS_PER_FILE};
use super::inputs::Input;
use super::ledger::{KnownFile, Ledger};
use super::plan::Plan;
use super::report::{LeftOutOfFile, ReadingCounts, Report};
use super::rollup_files::RollupFiles;
use crate::engine::{RawScanExec, ScanFile, batch_context};
use crate::jobs::error::JobError;
use crate::lake::raw::RawFileError;
use crate::lake::storage::failpoint;
use crate::model::{AssetId, DateSet, Resolution};
use crate::rollup::{
    Cell, FileOutcome, FileTask, LeftOut, MinuteRow, Outcome, Request, ResampleExec,
};

impl Attempt<'_> {
    /// Computes the dirty dates, cell by cell. Returns the counts, or `None` if the run must start over.
    pub(in crate::jobs) async fn compute(
        &self,
        plan: &mut Plan,
        files: &Arc<RollupFiles>,
        damaged: &mut DamagedFiles,
    ) -> Result<Option<Totals>, JobError> {
        let memory = self.job.settings.resample.memory;
        let readable = self.inputs(&plan.ledger);
        let mut computation = Computation {
            attempt: self,
            plan,
            files,
            damaged,
            readable: &readable,
            budget: failpoint::memory_budget().unwrap_or(memory / 2) as usize,
            totals: Totals::default(),
        };
        let is_complete = computation.run().await?;
        Ok(is_complete.then_some(computation.totals))
    }
}

/// The computation of the dirty dates of a run.
struct Computation<'a> {
    attempt: &'a Attempt<'a>,
    plan: &'a mut Plan,
    files: &'a Arc<RollupFiles>,
    damaged: &'a mut DamagedFiles,
    /// The files that can be read, in order of precedence.
    readable: &'a [Input],
    /// The maximum number of bytes that the operator holds.
    budget: usize,
    totals: Totals,
}

/// A file that a cell reads, and its task.
struct CellInput<'a> {
    input: &'a Input,
    task: FileTask,
}

/// The outcome of computing a cell.
enum CellOutcome {
    /// The number of minute rows that were written.
    Computed(usize),
    /// The cell does not fit into memory. Contains the median of its assets, at which it can be split.
    TooLarge(Option<AssetId>),
    Restart,
}

/// The outcome of computing a cell that is split if it is too large.
enum CellProgress {
    /// The number of minute rows that were written.
    Computed(usize),
    /// The parts to compute instead.
    Split((Cell, Cell)),
    Restart,
}

impl<'a> Computation<'a> {
    /// Computes all cells. Returns false if the run must start over.
    async fn run(&mut self) -> Result<bool, JobError> {
        let mut cells = self.cells();
        let estimate = self.plan.ledger.estimate_readings(&self.plan.dirty);
        self.attempt.job.progress.expect(estimate);
        let mut unwritten = [
            self.files.dirty_partitions(Resolution::Hour),
            self.files.dirty_partitions(Resolution::Day),
        ];
        // Readings without a plausible time belong to no date, so the first cell counts them.
        let mut untimed = true;
        let mut next = cells.next();
        if next.is_none() && self.plan.ledger.all_files().any(|file| file.untimed) {
            // There are files to count but no date to compute, so an empty cell reads them.
            next = Some(Cell::days(0, -1));
        }
        while let Some(cell) = next {
            match self.compute_or_split(cell, untimed).await? {
                CellProgress::Computed(minutes) => {
                    cells.update_ratio(&cell, minutes);
                    untimed = false;
                }
                CellProgress::Split(parts) => cells.requeue(parts),
                CellProgress::Restart => return Ok(false),
            }
            self.write_complete(&cells, &mut unwritten).await?;
            next = cells.next();
        }
        Ok(true)
    }

    /// Divides the dirty dates into cells.
    fn cells(&self) -> Cells {
        let rows = (self.budget / size_of::<MinuteRow>() * 9 / 10).max(1);
        let usable = self.plan.ledger.all_files();
        let usable = usable.filter(|file| file.quarantined.is_none());
        // Tests with little memory have small files, and still need cells that are divided by asset.
        let rows_per_file = failpoint::memory_budget().map_or(MIN_ROWS_PER_FILE, |_| 1);
        Cells::new(&self.plan.dirty, usable, rows, rows_per_file)
    }

    /// Computes a cell, or splits it if it does not fit into memory. A cell that cannot be split is computed without
    /// the limit.
    async fn compute_or_split(
        &mut self,
        cell: Cell,
        untimed: bool,
    ) -> Result<CellProgress, JobError> {
        let mut memory = Some(self.budget);
        loop {
            match self.compute_cell(cell, untimed, memory).await? {
                CellOutcome::Computed(minutes) => return Ok(CellProgress::Computed(minutes)),
                CellOutcome::TooLarge(median) if memory.is_some() => {
                    if let Some(parts) = cell.split(median) {
                        return Ok(CellProgress::Split(parts));
                    }
                    warn!(
                        "the readings of one asset on one date exceed resample.memory; computing them without the limit"
                    );
                    memory = None;
                }
                CellOutcome::TooLarge(_) | CellOutcome::Restart => {
                    return Ok(CellProgress::Restart);
                }
            }
        }
    }

    /// Writes the hours and days of the partitions in `unwritten` whose dates are all computed.
    async fn write_complete(
        &self,
        cells: &Cells,
        unwritten: &mut [DateSet; 2],
    ) -> Result<(), JobError> {
        for (resolution, unwritten) in [Resolution::Hour, Resolution::Day]
            .into_iter()
            .zip(unwritten)
        {
            let complete: DateSet = unwritten
                .iter()
                .filter(|&start| {
                    !cells.has_pending(start, RollupFiles::last_day_of_partition(resolution, start))
                })
                .collect();
            self.files.write_partitions(resolution, &complete).await?;
            *unwritten = unwritten.difference(&complete);
        }
        Ok(())
    }

    /// Computes a cell with an operator that may hold `memory` bytes; `None` means no limit.
    async fn compute_cell(
        &mut self,
        cell: Cell,
        untimed: bool,
        memory: Option<usize>,
    ) -> Result<CellOutcome, JobError> {
        let context = batch_context(memory, self.attempt.job.settings.resample.threads)?;
        let inputs = self.cell_inputs(cell, untimed);
        if inputs.is_empty() {
            return Ok(CellOutcome::Computed(0));
        }
        let exec = self.operator(cell, &inputs)?;
        let written = self.write_minutes(&exec, &context).await?;
        debug!(first = cell.first, last = cell.last, "a cell is written");
        let outcome = exec.take_outcome();
        if self.record_faults(&inputs, &outcome.files, written.is_ok())? {
            return Ok(CellOutcome::Restart);
        }
        match written {
            Ok(()) => {}
            Err(JobError::Compute(error))
                if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) =>
            {
                return Ok(CellOutcome::TooLarge(outcome.median_asset));
            }
            Err(error) => return Err(error),
        }
        self.totals.add(&inputs, &outcome);
        Ok(CellOutcome::Computed(outcome.minutes))
    }

    /// Returns the files with readings in the cell. With `untimed`, files with readings without a plausible time are
    /// included.
    fn cell_inputs(&self, cell: Cell, untimed: bool) -> Vec<CellInput<'a>> {
        let dates = DateSet::range(cell.first, cell.last);
        let mut inputs = Vec::new();
        for input in self.readable {
            let known = self.plan.ledger.file(&input.key);
            let Some(known) = known.filter(|known| known.quarantined.is_none()) else {
                continue;
            };
            let count_untimed = untimed && known.untimed;
            let inside = known.asset.is_none_or(|asset| cell.has_asset(asset))
                && known.dates.intersects(&dates);
            if count_untimed || inside {
                let count_dates = self
                    .plan
                    .first_time
                    .get(&input.key)
                    .map(|first| first.intersection(&dates))
                    .unwrap_or_default();
                let task = FileTask {
                    count_dates,
                    count_untimed,
                    expected_minutes: known.max_minutes_on(&dates) as usize,
                };
                inputs.push(CellInput { input, task });
            }
        }
        inputs
    }

    /// Returns the number of files that are read concurrently, and of tasks that write.
    fn concurrency(&self) -> usize {
        // One more than threads: while one waits for a file to be fetched or stored, another computes.
        self.attempt.job.settings.resample.threads.max(1) + 1
    }

    /// Creates the operator for a cell.
    fn operator(
        &self,
        cell: Cell,
        inputs: &[CellInput<'_>],
    ) -> Result<Arc<ResampleExec>, DataFusionError> {
        let scan = RawScanExec::new(
            Arc::clone(&self.attempt.format),
            inputs
                .iter()
                .map(|CellInput { input, task }| ScanFile {
                    folder: input.folder.clone(),
                    file: input.file.clone(),
                    untimed: task.count_untimed,
                })
                .collect(),
            cell.window(),
        );
        let concurrency = self.concurrency();
        let progress = Arc::clone(&self.attempt.job.progress);
        let request = Request {
            schema: self.attempt.job.schema.clone(),
            cell,
            plausible: self.attempt.plausible,
            tasks: inputs.iter().map(|input| input.task.clone()).collect(),
            concurrency,
            sort_readings: (self.budget / concurrency / 3 / 36).max(1_024),
            on_readings: Arc::new(move |readings| progress.read(readings)),
        };
        Ok(Arc::new(ResampleExec::try_new(Arc::new(scan), request)?))
    }

    /// Writes the minutes of all output partitions. Returns the first error of a writer. Fails if a writer panics.
    async fn write_minutes(
        &self,
        exec: &Arc<ResampleExec>,
        context: &Arc<TaskContext>,
    ) -> Result<Result<(), JobError>, DataFusionError> {
        // One task per partition: encoding is most of the work and must not be limited to one core.
        let mut writers = JoinSet::new();
        for partition in 0..self.concurrency() {
            let (exec, context) = (Arc::clone(exec), Arc::clone(context));
            let mut writer = self.files.minute_writer();
            writers.spawn(async move {
                let mut batches = exec.execute(partition, context)?;
                while let Some(batch) = batches.try_next().await? {
                    writer.write(&batch).await?;
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
        Ok(written)
    }

    /// Records the damaged files of a cell. Returns true if the run must start over, and fails if a fault may be
    /// transient. `is_written` states whether the cell is complete except for the faulty files.
    fn record_faults(
        &mut self,
        inputs: &[CellInput<'_>],
        outcomes: &[FileOutcome],
        is_written: bool,
    ) -> Result<bool, JobError> {
        let mut again = false;
        for (CellInput { input, .. }, outcome) in inputs.iter().zip(outcomes) {
            let Some(fault) = &outcome.fault else {
                continue;
            };
            let is_archived = Ledger::archive_name(&input.key).is_some();
            match as_file_error(fault) {
                Some(RawFileError::Changed { .. }) if !is_archived => again = true,
                // This error may be transient, whereas the dates of a damaged archived file are sealed for good, so the
                // run fails.
                Some(RawFileError::AccessDenied { .. }) if is_archived => {
                    return Err(JobError::Compute(DataFusionError::Execution(
                        fault.to_string(),
                    )));
                }
                Some(RawFileError::Store { .. }) | None => {
                    return Err(JobError::Compute(DataFusionError::Execution(
                        fault.to_string(),
                    )));
                }
                Some(fault) => {
                    // Other results contain the file's readings, or belong to dates that this run does not compute.
                    let known_before = self.totals.read.contains(&input.key)
                        || self.plan.is_used_elsewhere(&input.key)
                        || !is_written;
                    again |= known_before || is_archived;
                    self.record_damage(input, fault.to_string());
                }
            }
        }
        Ok(again)
    }

    /// Puts a damaged file into quarantine.
    fn record_damage(&mut self, input: &Input, reason: String) {
        let (key, file) = (&input.key, &input.file);
        let damage = (key.clone(), file.etag.clone());
        self.damaged.insert(damage, reason.clone());
        if let Some(known) = self.plan.ledger.files.get_mut(key) {
            *known = KnownFile {
                etag: file.etag.clone(),
                modified: file.modified,
                size: file.size,
                quarantined: Some(reason),
                ..KnownFile::default()
            };
        }
    }
}

/// The counts of files and readings that the computation collects.
#[derive(Default)]
pub(in crate::jobs) struct Totals {
    valid: u64,
    used: u64,
    left_out: BTreeMap<String, LeftOut>,
    /// The files that were read in a finished cell.
    read: BTreeSet<String>,
}

impl Totals {
    /// Adds the counts of a finished cell.
    fn add(&mut self, inputs: &[CellInput<'_>], outcome: &Outcome) {
        self.used += outcome.used;
        for (CellInput { input, .. }, outcome) in inputs.iter().zip(&outcome.files) {
            self.valid += outcome.valid;
            if outcome.left_out.total() > 0 {
                self.left_out
                    .entry(input.key.clone())
                    .or_default()
                    .merge(&outcome.left_out);
            }
            self.read.insert(input.key.clone());
        }
    }

    /// Enters the counts into the ledger and the report.
    pub(in crate::jobs) fn record(self, ledger: &mut Ledger, report: &mut Report) {
        let mut total = LeftOut::default();
        for (_, file) in ledger.all_files_mut() {
            file.untimed = false;
        }
        for (path, left_out) in self.left_out {
            total.merge(&left_out);
            if let Some(file) = ledger.file_mut(&path) {
                file.left_out.merge(&left_out);
            }
            report.left_out.push(LeftOutOfFile {
                path: Ledger::display_path(&path),
                reasons: left_out,
            });
        }
        report.readings = ReadingCounts {
            read: self.valid + total.total(),
            used: self.used,
            left_out: total,
            superseded: self.valid.saturating_sub(self.used),
        };
    }
}

/// Returns the file's fault inside an error of the plan.
fn as_file_error(error: &DataFusionError) -> Option<&RawFileError> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}
