//! What a job is: something that is run, says what came of it, and stops when it is told to.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::model::{JobKind, JobSpec};

/// A kind of job. Implementations are put together in `app`.
///
/// A run may be done again that was done already, if its process was killed before that was written down, and it may end
/// anywhere: by being dropped where it waits, when it takes too long or its machine is to stop.
#[async_trait]
pub trait Job: Send + Sync {
    /// Does it once.
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure>;
}

/// The jobs that can be run, by kind.
pub type Jobs = BTreeMap<JobKind, Arc<dyn Job>>;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// What was declared.
    pub spec: JobSpec,
    /// The due time that it is for.
    pub scheduled_for: DateTime<Utc>,
    /// Whether it should come to an end soon. A job that can, does so after the step at hand, and returns
    /// [`JobFailure::Stopped`]; one that does not look is left some time, and dropped then.
    pub stop: Stop,
}

/// What came of a run that ended well.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobOutcome {
    /// What the job counts.
    pub rows: Option<u64>,
    /// What it says of it, for the history.
    pub summary: Option<serde_json::Value>,
    /// Whether some of the input was left out, which somebody should look at.
    pub left_out: bool,
}

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// It failed.
    #[error("{0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// Something that is not of the schedule is at it, and will be done.
    #[error("{0}")]
    Busy(#[source] Box<dyn Error + Send + Sync>),
    /// A setting is missing or wrong: to try again is of no use.
    #[error("{0}")]
    Settings(#[source] Box<dyn Error + Send + Sync>),
    /// It was told to stop, and did.
    #[error("it was told to stop")]
    Stopped,
}

impl JobFailure {
    /// A failure because of `error`.
    pub fn because(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// Tells whether to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    requested: watch::Receiver<bool>,
}

/// Asks to stop, once, and for all who look.
#[derive(Debug, Clone)]
pub struct Stopper {
    request: watch::Sender<bool>,
}

impl Default for Stopper {
    fn default() -> Self {
        Self {
            request: watch::Sender::new(false),
        }
    }
}

impl Stopper {
    /// Asks to stop.
    pub fn stop(&self) {
        self.request.send_replace(true);
    }

    /// For those who are asked.
    pub fn stop_of(&self) -> Stop {
        Stop {
            requested: self.request.subscribe(),
        }
    }
}

impl Stop {
    /// Whether to stop.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits until that is asked; for ever, if nobody can ask any more.
    pub async fn wait(&self) {
        let mut requested = self.requested.clone();
        if requested.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
