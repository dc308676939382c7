//! Computes the dirty dates of a run, cell by cell, into new data files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::cells::{Cells, MIN_ROWS_PER_FILE};
use super::inputs::Input;
use super::ledger::{KnownFile, Ledger};
use super::plan::Plan;
use super::report::{LeftOutOfFile, ReadingCounts, Report};
use super::resample::{Attempt, JobError};
use super::rollup_files::RollupFiles;
use crate::engine::{RawScanExec, ScanFile, batch_context};
use crate::lake::failpoint;
use crate::lake::raw::RawFileError;
use crate::model::{DateSet, Resolution};
use crate::resample::{Cell, FileTask, LeftOut, MinuteRow, Request, ResampleExec};

/// The counts of files and readings that the computation collects.
#[derive(Default)]
pub(super) struct Totals {
    valid: u64,
    used: u64,
    left_out: BTreeMap<String, LeftOut>,
    /// The files that were read in a finished cell.
    read: BTreeSet<String>,
}

impl Attempt<'_> {
    /// Computes the dirty dates, cell by cell. Returns false if the run must start over.
    pub(super) async fn compute(
        &self,
        plan: &mut Plan,
        files: &Arc<RollupFiles>,
        gathered: &mut Totals,
        damaged: &mut BTreeMap<(String, String), String>,
    ) -> Result<bool, JobError> {
        let budget = failpoint::memory_budget().unwrap_or(self.job.settings.resample.memory / 2);
        let rows = (budget as usize / size_of::<MinuteRow>() * 9 / 10).max(1);
        let usable = plan.ledger.all_files();
        let usable = usable.filter(|file| file.quarantined.is_none());
        let readable = self.inputs(&plan.ledger);
        // Tests with little memory have small files, and still need cells that are divided by asset.
        let rows_per_file = failpoint::memory_budget().map_or(MIN_ROWS_PER_FILE, |_| 1);
        let mut cells = Cells::new(&plan.dirty, usable, rows, rows_per_file);
        self.job
            .progress
            .expect(estimate_readings(&plan.ledger, &plan.dirty));
        let mut unwritten = [
            files.dirty_partitions(Resolution::Hour),
            files.dirty_partitions(Resolution::Day),
        ];
        // Readings without a plausible time belong to no date, so the first cell counts them.
        let mut untimed = true;
        let mut next = cells.next();
        if next.is_none() && plan.ledger.all_files().any(|file| file.untimed) {
            // There are files to count but no date to compute, so an empty cell reads them.
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
                        &readable,
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
                    CellOutcome::Computed(minutes) => {
                        cells.update_ratio(&cell, minutes);
                        untimed = false;
                        break;
                    }
                    CellOutcome::TooLarge(median) if !unlimited => match cell.split(median) {
                        Some(parts) => {
                            cells.requeue(parts);
                            break;
                        }
                        None => {
                            warn!(
                                "the readings of one asset on one date exceed resample.memory; computing them without the limit"
                            );
                            unlimited = true;
                        }
                    },
                    CellOutcome::TooLarge(_) | CellOutcome::Restart => return Ok(false),
                }
            }
            for (resolution, unwritten) in [Resolution::Hour, Resolution::Day]
                .into_iter()
                .zip(&mut unwritten)
            {
                let complete: DateSet = unwritten
                    .iter()
                    .filter(|&start| {
                        !cells.has_pending(
                            start,
                            RollupFiles::last_day_of_partition(resolution, start),
                        )
                    })
                    .collect();
                files.write_partitions(resolution, &complete).await?;
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
        readable: &[Input],
        cell: Cell,
        untimed: bool,
        files: &Arc<RollupFiles>,
        gathered: &mut Totals,
        damaged: &mut BTreeMap<(String, String), String>,
        context: Arc<TaskContext>,
        budget: usize,
    ) -> Result<CellOutcome, JobError> {
        let dates = DateSet::range(cell.first, cell.last);
        let mut inputs = Vec::new();
        for input in readable {
            let known = plan.ledger.file(&input.key);
            let Some(known) = known.filter(|known| known.quarantined.is_none()) else {
                continue;
            };
            let count_untimed = untimed && known.untimed;
            let inside = known.asset.is_none_or(|asset| cell.has_asset(asset))
                && known.dates.intersects(&dates);
            if count_untimed || inside {
                let count_dates = plan
                    .first_time
                    .get(&input.key)
                    .map(|first| first.intersection(&dates))
                    .unwrap_or_default();
                inputs.push((
                    input,
                    FileTask {
                        count_dates,
                        count_untimed,
                        expected_minutes: known.max_minutes_on(&dates) as usize,
                    },
                ));
            }
        }
        // One more than threads: while one waits for a file to be fetched or stored, another computes.
        let at_once = self.job.settings.resample.threads.max(1) + 1;
        let progress = Arc::clone(&self.job.progress);
        let scan = RawScanExec::new(
            Arc::clone(&self.format),
            inputs
                .iter()
                .map(|(input, task)| ScanFile {
                    folder: input.folder.clone(),
                    file: input.file.clone(),
                    untimed: task.count_untimed,
                })
                .collect(),
            cell.window(),
        );
        if inputs.is_empty() {
            return Ok(CellOutcome::Computed(0));
        }
        let request = Request {
            cell,
            plausible: self.plausible,
            tasks: inputs.iter().map(|(_, task)| task.clone()).collect(),
            concurrency: at_once,
            sort_readings: (budget / at_once / 3 / 36).max(1_024),
            on_readings: Arc::new(move |readings| progress.read(readings)),
        };
        let exec = Arc::new(ResampleExec::try_new(Arc::new(scan), request)?);
        // One task per partition: encoding is most of the work and must not be limited to one core.
        let mut writers = JoinSet::new();
        for partition in 0..at_once {
            let (exec, context) = (Arc::clone(&exec), Arc::clone(&context));
            let mut writer = files.minute_writer();
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
        debug!(first = cell.first, last = cell.last, "a cell is written");
        let outcome = exec.take_outcome();
        let mut again = false;
        for ((input, _), outcome) in inputs.iter().zip(&outcome.files) {
            let Some(fault) = &outcome.fault else {
                continue;
            };
            let (key, file) = (&input.key, &input.file);
            let is_archived = Ledger::archive_name(key).is_some();
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
                    let reason = fault.to_string();
                    // Other results contain the file's readings, or belong to dates that this run does not compute.
                    let known_before = gathered.read.contains(key)
                        || plan.is_used_elsewhere(key)
                        || written.is_err();
                    again |= known_before || is_archived;
                    damaged.insert((key.clone(), file.etag.clone()), reason.clone());
                    if let Some(known) = plan.ledger.files.get_mut(key) {
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
        }
        if again {
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
        gathered.used += outcome.used;
        for ((input, _), outcome) in inputs.iter().zip(&outcome.files) {
            gathered.valid += outcome.valid;
            if outcome.left_out.total() > 0 {
                gathered
                    .left_out
                    .entry(input.key.clone())
                    .or_default()
                    .merge(&outcome.left_out);
            }
            gathered.read.insert(input.key.clone());
        }
        Ok(CellOutcome::Computed(outcome.minutes))
    }

    /// Enters the counts into the ledger and the report.
    pub(super) fn record_totals(&self, plan: &mut Plan, report: &mut Report, gathered: Totals) {
        let mut total = LeftOut::default();
        for (_, file) in plan.ledger.all_files_mut() {
            file.untimed = false;
        }
        for (path, left_out) in gathered.left_out {
            total.merge(&left_out);
            if let Some(file) = plan.ledger.file_mut(&path) {
                file.left_out.merge(&left_out);
            }
            report.left_out.push(LeftOutOfFile {
                path: Ledger::display_path(&path),
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

/// The outcome of computing a cell.
enum CellOutcome {
    /// The number of minute rows that were written.
    Computed(usize),
    /// The cell does not fit into memory. Contains the median of its assets, at which it can be split.
    TooLarge(Option<crate::model::AssetId>),
    Restart,
}

/// Returns the file's fault inside an error of the plan.
fn as_file_error(error: &DataFusionError) -> Option<&RawFileError> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// Estimates the number of readings that are read to compute `dates`.
pub(super) fn estimate_readings(ledger: &Ledger, dates: &DateSet) -> u64 {
    let share = |file: &KnownFile| {
        file.rows as f64 * file.dates.intersection(dates).len() as f64
            / file.dates.len().max(1) as f64
    };
    ledger
        .all_files()
        .filter(|file| file.quarantined.is_none())
        .map(share)
        .sum::<f64>() as u64
}
