//! The jobs other than the resample job: the mirror, the search index, and maintenance.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::jobs::{resample_job, to_job_failure};
use super::search::{index_folder, search};
use crate::catalog::Snapshot;
use crate::config::Settings;
use crate::jobs::{MaintainOptions, Progress};
use crate::lake::Store;
use crate::lake::table::current_schema;
use crate::mirror::{self, Mirror, MirrorError};
use crate::schedule::{Job, JobContext, JobFailure, JobOutcome};
use crate::search::handover::{Outcome, Request, send_request};
use crate::search::index::IndexError;
use crate::search::{IndexReport, SearchError};

/// The error that no mirror is configured.
#[derive(Debug, thiserror::Error)]
#[error(
    "no mirror is configured: set `mirror_url`, such as \"postgres://plantlake@db.example/chemical\", or remove the job's \
     schedule"
)]
struct MirrorNotConfigured;

/// Copies recent averages to Postgres.
pub(super) struct MirrorJob(pub Settings);

#[async_trait]
impl Job for MirrorJob {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let settings = &self.0;
        let url = settings.mirror_url.clone();
        let lake = Store::open(&settings.lake, settings.storage.options());
        let mirror = Mirror {
            lake: lake.map_err(JobFailure::from_error)?,
            catalog: settings.catalog.clone(),
            url: url.ok_or_else(|| JobFailure::Settings(Box::new(MirrorNotConfigured)))?,
            settings: settings.mirror.clone(),
            schema: current_schema().clone(),
            progress: Arc::new(LoggedProgress),
        };
        let options = mirror::Options {
            full: context.spec.is_set("full"),
            dry_run: false,
        };
        // Runs on a thread of its own, because the compiler cannot prove that the future is `Send`. It stops when this
        // future is dropped.
        let (stop_sender, stopped) = oneshot::channel::<()>();
        let runtime = Handle::current();
        let running = spawn_blocking(move || {
            runtime.block_on(async move {
                tokio::select! {
                    outcome = mirror.run(&options) => Some(outcome),
                    _ = stopped => None,
                }
            })
        });
        let outcome = running.await.map_err(JobFailure::from_error)?;
        drop(stop_sender);
        let outcome = outcome.ok_or_else(|| JobFailure::from_error("the job was stopped"))?;
        let report = outcome.map_err(|error| match error {
            error @ MirrorError::Held { .. } => JobFailure::Busy(Box::new(error)),
            error => JobFailure::from_error(error),
        })?;
        let rows = report.tables.iter().map(|table| table.sent).sum();
        Ok(JobOutcome {
            rows: Some(rows),
            left_out: report.assets.catalog_problem.is_some(),
            summary: Some(json!(report)),
        })
    }
}

/// A progress reporter that writes to the log.
struct LoggedProgress;

impl mirror::Progress for LoggedProgress {
    fn expect(&self, _: u64) {}
    fn sent(&self, _: u64) {}

    fn retrying(&self, problem: &MirrorError, wait: Duration) {
        tracing::warn!("retrying the mirror in {} s: {problem}", wait.as_secs());
    }
}

/// Updates the search index from the catalog. If a server has the index open, the server does it.
pub(super) struct IndexJob(pub Settings);

#[async_trait]
impl Job for IndexJob {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let report = self.index(context.spec.is_set("full")).await?;
        Ok(JobOutcome {
            rows: Some(report.indexed as u64),
            left_out: false,
            summary: Some(json!(report)),
        })
    }
}

impl IndexJob {
    async fn index(&self, full: bool) -> Result<IndexReport, JobFailure> {
        let settings = &self.0;
        if settings.qdrant.url.is_none() {
            let folder = index_folder(settings);
            let request = Request::Index { full };
            match send_request(&folder, &request, &|_| {}).await {
                Some(Ok(Outcome::Indexed(report))) => return Ok(report),
                Some(Ok(Outcome::Found { .. })) => {
                    return Err(JobFailure::from_error(
                        "the server runs another version of plantlake",
                    ));
                }
                Some(Err(error)) => return Err(JobFailure::from_error(error)),
                None => {}
            }
        }
        let search = search(settings, true).map_err(JobFailure::from_error)?;
        let snapshot = Snapshot::read(&settings.catalog).map_err(JobFailure::from_error)?;
        let report = search.index(&snapshot, full, &|_| {}).await;
        report.map_err(|error| match error {
            error @ SearchError::Index(IndexError::InUse { .. }) => {
                JobFailure::Busy(Box::new(error))
            }
            error => JobFailure::from_error(error),
        })
    }
}

/// Maintains the files of the tables.
pub(super) struct MaintainJob(pub Settings, pub Arc<dyn Progress>);

#[async_trait]
impl Job for MaintainJob {
    async fn run(&self, _: &JobContext) -> Result<JobOutcome, JobFailure> {
        let Self(settings, progress) = self;
        let job = resample_job(settings, Arc::clone(progress)).map_err(JobFailure::from_error)?;
        let report = job.maintain(&MaintainOptions::default()).await;
        let report = report.map_err(to_job_failure)?;
        let compacted = report.compacted.iter().map(|table| table.rows);
        let expired = report.expired.iter().map(|expired| expired.rows);
        Ok(JobOutcome {
            rows: Some(compacted.chain(expired).sum()),
            left_out: false,
            summary: Some(json!(report)),
        })
    }
}
