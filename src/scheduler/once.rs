//! Runs one job on request: by cron, systemd, Kubernetes or a person.

use super::job::{JobOutcome, StopSignal};
use super::worker::{FailureCause, HEARTBEAT_INTERVAL, LEASE_TIMEOUT, Worker};
use crate::model::JobSpec;
use crate::store::{JobRun, RunStatus, StoreError};

/// The result of a run on request.
#[derive(Debug, Clone, PartialEq)]
pub enum RunOnceOutcome {
    /// The job ran.
    Completed {
        /// The final status.
        status: RunStatus,
        /// The outcome.
        outcome: JobOutcome,
        /// The error, if the run failed.
        error: Option<String>,
        /// The cause of the failure, if the run failed.
        cause: FailureCause,
    },
    /// The job is running in another process.
    AlreadyRunning(Box<JobRun>),
    /// Another process has taken over the run.
    TakenOver,
}

/// Runs the job now, unless it is already running. A run whose process died is detected within 30 seconds.
pub async fn run_once(
    worker: &Worker,
    spec: &JobSpec,
    stop: StopSignal,
) -> Result<RunOnceOutcome, StoreError> {
    let history = &*worker.history;
    loop {
        let now = worker.clock.now();
        if let Some(run) = history
            .claim(&spec.name, now, true, &worker.holder, now)
            .await?
        {
            return Ok(match worker.execute(spec, run, stop).await {
                Some(worked) => RunOnceOutcome::Completed {
                    status: worked.status,
                    outcome: worked.outcome,
                    error: worked.error,
                    cause: worked.cause,
                },
                None => RunOnceOutcome::TakenOver,
            });
        }
        let Some(other) = history.running_run(&spec.name).await? else {
            // The other run has just ended.
            continue;
        };
        let since = worker.clock.elapsed();
        while worker.clock.elapsed() - since < LEASE_TIMEOUT {
            tokio::select! {
                () = worker.clock.sleep(HEARTBEAT_INTERVAL / 5) => {}
                () = stop.wait() => return Ok(RunOnceOutcome::AlreadyRunning(Box::new(other))),
            }
            match history.running_run(&spec.name).await? {
                Some(run) if run.id == other.id && run.heartbeats == other.heartbeats => {}
                Some(run) => return Ok(RunOnceOutcome::AlreadyRunning(Box::new(run))),
                None => break,
            }
        }
        if let Some(run) = history.running_run(&spec.name).await?
            && (run.id, run.heartbeats) == (other.id, other.heartbeats)
        {
            // The holder is dead. If the run is for a due time, the schedule resumes it.
            let why = "its process ended while it ran";
            history
                .give_up(&run, RunStatus::Aborted, why, worker.clock.now())
                .await?;
        }
    }
}
