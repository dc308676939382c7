//! The interface of a job: it runs, returns an outcome, and stops on request.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::model::JobSpec;

/// A kind of job. `app` assembles the implementations.
///
/// A finished run may be executed again, if its process was killed before the result was recorded. A run may also end
/// at any await point: it is dropped there on a timeout or when its process has to stop.
#[async_trait]
pub trait Job: Send + Sync {
    /// Runs the job once.
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure>;

    /// Sets metrics of the job's target: it has everything that was due at `done_as_of`, according to the history.
    fn report_done_as_of(&self, _done_as_of: DateTime<Utc>) {}
}

/// The jobs that can be run, by the name of their kind.
pub type Jobs = BTreeMap<&'static str, Arc<dyn Job>>;

/// The input of a run.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The declaration of the job.
    pub spec: JobSpec,
    /// The due time of the run.
    pub scheduled_for: DateTime<Utc>,
    /// A signal that the run should end soon. A job that supports it ends after the current step and returns
    /// [`JobFailure::Stopped`]; any other job is dropped after a grace period.
    pub stop: StopSignal,
}

/// The outcome of a successful run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobOutcome {
    /// The count that the job reports.
    pub rows: Option<u64>,
    /// A summary for the history.
    pub summary: Option<serde_json::Value>,
    /// Whether some of the input was left out, which requires attention.
    pub left_out: bool,
}

/// The reason why a run did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// The job failed.
    #[error("{0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// Other work, outside the schedule, occupies the job's target and will finish.
    #[error("{0}")]
    Busy(#[source] Box<dyn Error + Send + Sync>),
    /// A setting is missing or wrong; a retry would fail as well.
    #[error("{0}")]
    Settings(#[source] Box<dyn Error + Send + Sync>),
    /// The job stopped on request.
    #[error("it was stopped on request")]
    Stopped,
}

impl JobFailure {
    /// Returns a failure caused by `error`.
    pub fn from_error(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// The receiver of a stop request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StopSignal {
    requested: watch::Receiver<bool>,
}

/// The sender of a stop request: once, to all receivers.
#[derive(Debug, Clone)]
pub struct StopSender {
    request: watch::Sender<bool>,
}

impl Default for StopSender {
    fn default() -> Self {
        Self {
            request: watch::Sender::new(false),
        }
    }
}

impl StopSender {
    /// Requests a stop.
    pub fn stop(&self) {
        self.request.send_replace(true);
    }

    /// Returns a receiver of the request.
    pub fn subscribe(&self) -> StopSignal {
        StopSignal {
            requested: self.request.subscribe(),
        }
    }
}

impl StopSignal {
    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits until a stop is requested; forever if there is no sender left.
    pub async fn wait(&self) {
        let mut requested = self.requested.clone();
        if requested.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
