//! Runs one job because somebody asks for it: cron, systemd, Kubernetes or a person.

use super::job::{JobOutcome, Stop};
use super::work::{Cause, HEARTBEAT, LEASE, Worker};
use crate::model::JobSpec;
use crate::store::{JobRun, RunStatus, StoreError};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Once {
    /// It ran.
    Ran {
        /// How that ended.
        status: RunStatus,
        /// What came of it.
        outcome: JobOutcome,
        /// Why it failed.
        error: Option<String>,
        /// What kind of failure it was, if it was one.
        cause: Cause,
    },
    /// It runs elsewhere.
    Elsewhere(Box<JobRun>),
    /// It was lost to another process on the way.
    Lost,
}

/// Runs the job now, unless it runs already. One whose process died is found out within half a minute.
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
            // It has ended at this moment.
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
            // Whoever had it is no more. A due time of the schedule is left to the schedule.
            let why = "its process ended while it ran";
            history
                .give_up(&run, RunStatus::Aborted, why, worker.clock.now())
                .await?;
        }
    }
}
