//! Runs one job on request: by cron, systemd, Kubernetes or a person.

use super::job::{JobOutcome, Stop};
use super::work::{Cause, HEARTBEAT, LEASE, Worker};
use crate::model::JobSpec;
use crate::store::{JobRun, RunStatus, StoreError};

/// The result of a run on request.
#[derive(Debug, Clone, PartialEq)]
pub enum Once {
    /// The job ran.
    Ran {
        /// The final status.
        status: RunStatus,
        /// The outcome.
        outcome: JobOutcome,
        /// The error, if the run failed.
        error: Option<String>,
        /// The cause of the failure, if the run failed.
        cause: Cause,
    },
    /// The job is running in another process.
    Elsewhere(Box<JobRun>),
    /// Another process has taken over the run.
    Lost,
}

/// Runs the job now, unless it is already running. A run whose process died is detected within 30 seconds.
pub async fn run_once(worker: &Worker, spec: &JobSpec, stop: Stop) -> Result<Once, StoreError> {
    let history = &*worker.history;
    loop {
        let now = worker.clock.now();
        if let Some(run) = history
            .claim(&spec.name, now, true, &worker.holder, now)
            .await?
        {
            return Ok(match worker.work(spec, run, stop).await {
                Some(worked) => Once::Ran {
                    status: worked.status,
                    outcome: worked.outcome,
                    error: worked.error,
                    cause: worked.cause,
                },
                None => Once::Lost,
            });
        }
        let Some(other) = history.running(&spec.name).await? else {
            // The other run has just ended.
            continue;
        };
        let since = worker.clock.elapsed();
        while worker.clock.elapsed() - since < LEASE {
            tokio::select! {
                () = worker.clock.sleep(HEARTBEAT / 5) => {}
                () = stop.wait() => return Ok(Once::Elsewhere(Box::new(other))),
            }
            match history.running(&spec.name).await? {
                Some(run) if run.id == other.id && run.beats == other.beats => {}
                Some(run) => return Ok(Once::Elsewhere(Box::new(run))),
                None => break,
            }
        }
        if let Some(run) = history.running(&spec.name).await?
            && (run.id, run.beats) == (other.id, other.beats)
        {
            // The holder is dead. If the run is for a due time, the schedule resumes it.
            let why = "its process ended while it ran";
            history
                .give_up(&run, RunStatus::Aborted, why, worker.clock.now())
                .await?;
        }
    }
}
