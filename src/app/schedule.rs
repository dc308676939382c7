//! Creates the schedule from settings, and applies changes of the files that declare jobs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::job_kinds::read_jobs;
use super::jobs::{QuietProgress, jobs, start_workers};
use crate::config::Settings;
use crate::jobs::Progress;
use crate::jobs::spec::SpecError;
use crate::model::JobSpec;
use crate::scheduler::{
    CheckIntervals, Jobs, Scheduler, StopSignal, Webhook, WebhookError, Worker,
};
use crate::store::{OrganisationStore, StoreError};

/// The interval at which the files are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// An error of creating the schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The declaration of a job is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The organisation database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The webhook for failures cannot be used.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The threads of the jobs cannot be started.
    #[error("cannot start the threads of jobs")]
    Threads(#[source] std::io::Error),
}

/// Creates the worker that runs the jobs of `settings`.
pub fn worker(
    settings: &Settings,
    store: OrganisationStore,
    jobs: Jobs,
) -> Result<Worker, WebhookError> {
    let schedule = &settings.schedule;
    let webhook = schedule.webhook_url.clone().map(Webhook::new).transpose()?;
    let grace = schedule.shutdown_timeout.to_std().unwrap_or(Duration::MAX);
    Ok(Worker::new(Arc::new(store), jobs, webhook, grace))
}

/// A schedule that is ready to run.
pub struct ScheduleRunner {
    scheduler: Scheduler,
    specs: watch::Sender<Arc<[JobSpec]>>,
    folder: PathBuf,
    stamps: FileStamps,
}

/// The paths, sizes and modification times of the files that declare jobs.
type FileStamps = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl ScheduleRunner {
    /// Reads the declared jobs. In a server, they run on threads of a lower priority.
    pub async fn open(settings: &Settings, is_in_server: bool) -> Result<Self, ScheduleError> {
        let stamps = read_stamps(&settings.jobs);
        let specs: Arc<[JobSpec]> = read_jobs(&settings.jobs)?.into();
        let (store, _) = OrganisationStore::open(&settings.organisation_url).await?;
        let progress: Arc<dyn Progress> = Arc::new(QuietProgress);
        let workers = match is_in_server {
            true => Some(start_workers().map_err(ScheduleError::Threads)?),
            false => None,
        };
        let jobs = jobs(settings, &progress, workers.as_ref());
        let worker = worker(settings, store, jobs)?;
        let (sender, specs) = watch::channel(specs);
        Ok(Self {
            scheduler: Scheduler {
                worker: Arc::new(worker),
                specs,
                history: settings.schedule.history,
                intervals: CheckIntervals::default(),
            },
            specs: sender,
            folder: settings.jobs.clone(),
            stamps,
        })
    }

    /// Returns the names of the jobs that have a schedule.
    pub fn names(&self) -> Vec<String> {
        let specs = self.specs();
        let scheduled = specs.iter().filter(|spec| spec.schedule.is_some());
        scheduled.map(|spec| spec.name.clone()).collect()
    }

    /// Returns the declared jobs.
    pub fn specs(&self) -> Arc<[JobSpec]> {
        Arc::clone(&self.specs.borrow())
    }

    /// Runs jobs until `stop` is requested, and then until the running ones have ended.
    pub async fn run(self, stop: StopSignal) {
        let Self {
            scheduler,
            specs,
            folder,
            stamps,
        } = self;
        tokio::select! {
            () = scheduler.run(stop) => {}
            () = watch_job_files(&folder, stamps, &specs) => {}
        }
    }
}

/// Applies changed files, for as long as the future is polled. While a file is invalid, the former jobs stay in force.
async fn watch_job_files(
    folder: &Path,
    mut applied: FileStamps,
    specs: &watch::Sender<Arc<[JobSpec]>>,
) {
    let mut last = applied.clone();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = read_stamps(folder);
        // The files may be incomplete while they are being written.
        let is_stable = now == last;
        last = now;
        if !is_stable || last == applied {
            continue;
        }
        applied.clone_from(&last);
        match read_jobs(folder) {
            Ok(read) => {
                if **specs.borrow() != *read {
                    tracing::info!(jobs = read.len(), "changed jobs were applied");
                    specs.send_replace(read.into());
                }
            }
            Err(error) => tracing::error!(
                "cannot apply the changed jobs; the previous jobs stay in force: {error}"
            ),
        }
    }
}

fn read_stamps(folder: &Path) -> FileStamps {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut stamps: FileStamps = entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.path(), metadata.len(), metadata.modified().ok()))
        })
        .collect();
    stamps.sort();
    stamps
}
