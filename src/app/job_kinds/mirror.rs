//! The mirror job: copies recent averages to Postgres.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::kind::{DeclaredKind, MissingSetting};
use crate::config::Settings;
use crate::lake::Store;
use crate::lake::delta::table_columns::current_schema;
use crate::metrics::METRICS;
use crate::mirror::{self, Mirror, MirrorError};
use crate::model::{ArgumentType, JobKind};
use crate::scheduler::{Job, JobContext, JobFailure, JobOutcome};

pub(super) static MIRROR: DeclaredKind = DeclaredKind {
    kind: JobKind::new("mirror", &[("full", ArgumentType::Boolean)]),
    documentation: "updates [the mirror](mirror.md) from these tables",
    missing_setting: |settings| {
        settings.mirror_url.is_none().then_some(MissingSetting {
            problem: "no mirror is configured",
            key: "mirror_url",
        })
    },
    create: |inputs| Arc::new(MirrorJob(inputs.settings)),
};

/// The error that no mirror is configured.
#[derive(Debug, thiserror::Error)]
#[error(
    "no mirror is configured: set `mirror_url`, such as \"postgres://plantlake@db.example/chemical\", or remove the job's \
     schedule"
)]
struct MirrorNotConfigured;

/// Copies recent averages to Postgres.
struct MirrorJob(Settings);

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

    fn report_done_as_of(&self, done_as_of: DateTime<Utc>) {
        METRICS.tables.set_mirrored(done_as_of);
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
