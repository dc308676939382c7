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

use super::attempt::{AttemptOutcome, DamagedFiles, RunStart};
use super::job::{Job, Options};
use super::report::Report;
use crate::clock::{self, Stopwatch};
use crate::jobs::error::{JobError, MAX_ATTEMPTS};
use crate::lake::records::lease::{Holder, Lease};
use crate::lake::storage::failpoint;

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
        result.map_err(|error| error.with_location(&self.lake, &self.raw))
    }
}
