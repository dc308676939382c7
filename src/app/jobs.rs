//! Creates the jobs of all kinds from settings. A new kind takes an arm of [`jobs`] and a struct that implements
//! [`Job`].

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::kinds::{IndexJob, MaintainJob, MirrorJob};
use crate::config::Settings;
use crate::engine::THREAD_STACK_BYTES;
use crate::jobs::spec::{ResampleSpec, SpecError};
use crate::jobs::{self as batch, JobError, Options, Progress};
use crate::lake::lease::LeaseError;
use crate::lake::table::current_schema;
use crate::lake::{Store, StoreError};
use crate::model::{JobKind, day_from_date};
use crate::schedule::{Job, JobContext, JobFailure, JobOutcome, Jobs};
use crate::workers::Workers;

/// Returns a job for each kind that this program can run. With `workers`, the jobs run on those threads.
pub fn jobs(
    settings: &Settings,
    progress: &Arc<dyn Progress>,
    workers: Option<&Arc<Workers>>,
) -> Jobs {
    let mut jobs = Jobs::new();
    for kind in JobKind::ALL {
        let job: Arc<dyn Job> = match kind {
            JobKind::Resample => Arc::new(ResampleJob {
                settings: settings.clone(),
                progress: Arc::clone(progress),
            }),
            JobKind::Mirror => Arc::new(MirrorJob(settings.clone())),
            JobKind::Index => Arc::new(IndexJob(settings.clone())),
            JobKind::Maintain => Arc::new(MaintainJob(settings.clone(), Arc::clone(progress))),
        };
        let job = match workers {
            Some(workers) => Arc::new(WorkerJob {
                job,
                workers: Arc::clone(workers),
            }),
            None => job,
        };
        jobs.insert(kind, job);
    }
    jobs
}

/// Starts the threads that run the jobs of a server, with a lower priority than the threads that answer queries.
pub(super) fn start_workers() -> std::io::Result<Arc<Workers>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Workers::start("jobs", threads, THREAD_STACK_BYTES).map(Arc::new)
}

/// A progress reporter that reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuietProgress;

impl Progress for QuietProgress {
    fn expect(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

/// A job that runs on threads of its own.
struct WorkerJob {
    job: Arc<dyn Job>,
    workers: Arc<Workers>,
}

#[async_trait]
impl Job for WorkerJob {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let (job, context) = (Arc::clone(&self.job), context.clone());
        let done = self
            .workers
            .run(async move { job.run(&context).await })
            .await;
        done.unwrap_or_else(|| {
            Err(JobFailure::from_error(
                "the job ended unexpectedly; see the log",
            ))
        })
    }
}

/// An error of creating the resample job.
#[derive(Debug, thiserror::Error)]
pub enum ResampleJobError {
    /// The lake or the raw folder cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The declaration of the job is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Creates the resample job of `settings`, and the folder of the lake if it does not exist.
pub fn resample_job(
    settings: &Settings,
    progress: Arc<dyn Progress>,
) -> Result<batch::Job, ResampleJobError> {
    // The raw files come first: without them, no lake is created.
    let raw = Store::open_existing(&settings.raw, settings.storage.options())?;
    let lake = Store::open(&settings.lake, settings.storage.options())?;
    job_on(lake, raw, settings, progress)
}

/// Creates the resample job of `settings` for work on a lake that exists.
pub fn existing_resample_job(
    settings: &Settings,
    progress: Arc<dyn Progress>,
) -> Result<batch::Job, ResampleJobError> {
    let lake = Store::open_existing_lake(&settings.lake, settings.storage.options())?;
    let raw = Store::open_existing(&settings.raw, settings.storage.options())?;
    job_on(lake, raw, settings, progress)
}

fn job_on(
    lake: Store,
    raw: Store,
    settings: &Settings,
    progress: Arc<dyn Progress>,
) -> Result<batch::Job, ResampleJobError> {
    Ok(batch::Job {
        lake,
        raw,
        spec: ResampleSpec::read(&settings.jobs)?,
        settings: settings.clone(),
        schema: current_schema().clone(),
        progress,
    })
}

/// Converts the error of a run on the lake. A run that another run keeps from starting is busy, not failed.
pub(super) fn to_job_failure(error: JobError) -> JobFailure {
    match error {
        JobError::Lease(LeaseError::Held { .. }) => JobFailure::Busy(Box::new(error)),
        error => JobFailure::from_error(error),
    }
}

/// Resamples raw files to averages.
struct ResampleJob {
    settings: Settings,
    progress: Arc<dyn Progress>,
}

#[async_trait]
impl Job for ResampleJob {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let spec = &context.spec;
        // Created for each run, because the mapping of the columns may have changed.
        let job = resample_job(&self.settings, Arc::clone(&self.progress))
            .map_err(JobFailure::from_error)?;
        let (from, to) = (spec.date("from"), spec.date("to"));
        let options = Options {
            full: spec.is_set("full"),
            dates: (from.is_some() || to.is_some()).then(|| {
                (
                    from.map_or(i32::MIN, day_from_date),
                    to.map_or(i32::MAX - 1, day_from_date),
                )
            }),
            dry_run: false,
        };
        // The run stops when it is dropped: readers never see an abandoned run, and the next run does its work.
        let report = job.run(&options).await.map_err(to_job_failure)?;
        Ok(JobOutcome {
            rows: Some(report.rows.values().sum()),
            left_out: !report.quarantined.is_empty(),
            summary: Some(json!({
                "run": report.run,
                "outcome": report.outcome,
                "dates": report.dates,
                "files": report.files,
                "readings": report.readings,
                "rows": report.rows,
                "seconds": report.seconds,
            })),
        })
    }
}
