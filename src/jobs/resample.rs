//! The resample job: updates the three tables from the raw files, exactly once.
//!
//! 1. Take the lease; list the raw files, compare them with the ledger of the last published run, and survey new and
//!    changed files.
//! 2. Write the intent. If the run crashes, the next one computes these dates again.
//! 3. Compute the dirty dates from the raw files, cell by cell, into new data files.
//! 4. Commit the minute, hour and day tables, each once and with the run's number.
//! 5. Write the ledger, and publish the three versions together: from here on readers see them.
//!
//! A run that crashed is not continued but superseded: its raw files may no longer exist, and computing its dates from
//! the current files is right whatever it had committed.

use std::sync::Arc;

use super::attempt::{AttemptOutcome, DamagedFiles, RunStart};
use super::error::JobError;
use super::report::Report;
use super::spec::ResampleSpec;
use crate::clock::{self, Stopwatch};
use crate::config::Settings;
use crate::lake::lease::{Holder, Lease};
use crate::lake::raw::{ColumnNames, RawFormat};
use crate::lake::{Store, failpoint};
use crate::model::{Day, Window};
use crate::rollup_schema::RollupSchema;

/// The maximum number of attempts of a run. A run starts over if raw files change while it reads them, or turn out to
/// be damaged.
pub(super) const MAX_ATTEMPTS: usize = 20;
/// The upper bound of plausible times in microseconds, 6000-01-01. Minute numbers of 32 bits reach to the year 6053.
pub(super) const MAX_TIME_MICROS: i64 = 127_174_492_800_000_000;

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether to compute everything again.
    pub full: bool,
    /// The only dates to compute, if given; other dates stay due.
    pub dates: Option<(Day, Day)>,
    /// Whether to report only, without changing anything.
    pub dry_run: bool,
}

/// Receives the progress of a run.
pub trait Progress: Send + Sync {
    /// Announces the approximate number of readings that will be read.
    fn expect(&self, readings: u64);
    /// Reports the number of readings that were read since the last call.
    fn read(&self, readings: u64);
}

/// The resample job with its inputs.
pub struct Job {
    /// The lake.
    pub lake: Store,
    /// The raw files.
    pub raw: Store,
    /// The settings.
    pub settings: Settings,
    /// The operator's specification of the job.
    pub spec: ResampleSpec,
    /// The columns of the tables.
    pub schema: RollupSchema,
    /// The receiver of progress.
    pub progress: Arc<dyn Progress>,
}

impl Job {
    /// Runs the job once.
    pub async fn run(&self, options: &Options) -> Result<Report, JobError> {
        let watch = Stopwatch::start();
        let started_at = clock::now();
        let lease = if options.dry_run {
            None
        } else {
            Some(Lease::take(&self.lake, Holder::for_process("resample")).await?)
        };
        failpoint::reach("lease-taken");
        let start = RunStart {
            options,
            lease: lease.as_ref(),
            watch,
            started_at,
        };
        let mut damaged = DamagedFiles::new();
        let mut result = Err(JobError::FilesChanging);
        for _ in 0..MAX_ATTEMPTS {
            match self.attempt(&start, &mut damaged).await {
                Ok(AttemptOutcome::Restart) => continue,
                Ok(AttemptOutcome::Done(report)) => result = Ok(*report),
                Err(error) => result = Err(error),
            }
            break;
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        result
    }

    /// Returns the window of plausible times at the moment.
    pub(super) fn plausible(&self) -> Window {
        let plausible = self.settings.resample.plausible_times(clock::now());
        Window {
            start: *plausible.start(),
            end: plausible.end().saturating_add(1).min(MAX_TIME_MICROS),
        }
    }

    /// Returns the format of the raw files, of which times outside `plausible` are left out.
    pub(super) fn format(&self, plausible: Window) -> RawFormat {
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

    /// Returns the settings that determine the results. The plausible range is included as it is configured: `+1d`
    /// moves with the clock, and dates that become plausible later stay due until then (see `plan`).
    pub(super) fn fingerprint(&self) -> String {
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
