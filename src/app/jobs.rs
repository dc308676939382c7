//! Creates the jobs of all kinds from settings, and the threads that run them in a server.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::job_kinds::{JOB_KINDS, job_kinds};
use super::resample_job::{JobInputs, ResampleJobError};
use crate::config::Settings;
use crate::engine::THREAD_STACK_BYTES;
use crate::jobs::{self as batch, Progress};
use crate::scheduler::{Job, JobContext, JobFailure, JobOutcome, Jobs};
use crate::workers::Workers;

/// Returns a job for each kind that this program can run. With `workers`, the jobs run on those threads.
pub fn jobs(
    settings: &Settings,
    progress: &Arc<dyn Progress>,
    workers: Option<&Arc<Workers>>,
) -> Jobs {
    let inputs = inputs(settings, Arc::clone(progress));
    let jobs = JOB_KINDS.into_iter().map(|declared| {
        let job = (declared.create)(inputs.clone());
        let job = match workers {
            Some(workers) => Arc::new(WorkerJob {
                job,
                workers: Arc::clone(workers),
            }),
            None => job,
        };
        (declared.kind.name(), job)
    });
    jobs.collect()
}

fn inputs(settings: &Settings, progress: Arc<dyn Progress>) -> JobInputs {
    JobInputs {
        settings: settings.clone(),
        progress,
        kinds: job_kinds().into(),
    }
}

/// Creates the resample job of `settings`, and the folder of the lake if it does not exist.
pub fn resample_job(
    settings: &Settings,
    progress: Arc<dyn Progress>,
) -> Result<batch::Job, ResampleJobError> {
    inputs(settings, progress).resample_job()
}

/// Creates the resample job of `settings` for work on a lake that exists.
pub fn existing_resample_job(
    settings: &Settings,
    progress: Arc<dyn Progress>,
) -> Result<batch::Job, ResampleJobError> {
    inputs(settings, progress).existing_resample_job()
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

    fn report_done_as_of(&self, done_as_of: DateTime<Utc>) {
        self.job.report_done_as_of(done_as_of);
    }
}
