//! Executes one claimed run: renews its lease, retries it when it fails, ends it on a timeout or a stop request, and
//! records the result.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;

use super::history::RunHistory;
use super::job::{JobContext, JobFailure, JobOutcome, Jobs, StopSignal};
use super::webhook::Webhook;
use crate::clock::{self, Clock, Stopwatch};
use crate::config::redact;
use crate::metrics::METRICS;
use crate::model::{JobSpec, host_name, with_causes};
use crate::store::{JobEnd, JobHolder, JobRun, RunStatus};

/// The interval between heartbeats of a run.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// The time without a heartbeat after which a run may be taken over.
pub const LEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time without a successful heartbeat after which the holder stops its run, before another process may begin.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(25);
/// The maximum wait before a retry, before jitter.
const MAX_BACKOFF: Duration = Duration::from_secs(3_600);
/// The maximum relative deviation of the wait, so that many jobs do not retry at the same time.
const JITTER: f64 = 0.2;
/// The maximum number of times that a job may find other work on its target before that counts as a failure.
const MAX_BUSY_RETRIES: u64 = 20;
/// The maximum time spent on attempts to record how a run ended.
const RECORD_TIMEOUT: Duration = Duration::from_secs(300);
/// The maximum length of a stored error, in characters.
const MAX_ERROR_CHARS: usize = 4_000;
/// The reason that is recorded for an aborted run.
const STOPPED: &str = "its process was asked to stop";

/// Executes runs.
pub struct Worker {
    /// The store in which runs are recorded.
    pub history: Arc<dyn RunHistory>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The jobs that can be run.
    pub jobs: Jobs,
    /// The recipient of failure reports.
    pub webhook: Option<Webhook>,
    /// The time for which a run may continue after a stop request.
    pub grace: Duration,
    /// This process.
    pub holder: JobHolder,
}

/// The result of a run in this process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunResult {
    /// The final status.
    pub status: RunStatus,
    /// The outcome.
    pub outcome: JobOutcome,
    /// The error, if the run failed.
    pub error: Option<String>,
    /// The number of failed attempts.
    pub failures: u64,
    /// The cause of the failure, if the run failed.
    pub cause: FailureCause,
}

/// The cause of a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailureCause {
    /// Any cause except the following.
    #[default]
    Other,
    /// Other work, outside the schedule, occupies the job's target.
    Busy,
    /// A setting is missing or wrong.
    Settings,
}

/// The result of one attempt.
enum AttemptOutcome {
    Done(JobOutcome),
    Failed(String),
    Busy(String),
    Settings(String),
    TimedOut,
    Stopped,
}

impl Worker {
    /// Returns a worker for this process.
    pub fn new(
        history: Arc<dyn RunHistory>,
        jobs: Jobs,
        webhook: Option<Webhook>,
        grace: Duration,
    ) -> Self {
        Self {
            history,
            clock: Arc::new(clock::SystemClock::default()),
            jobs,
            webhook,
            grace,
            holder: JobHolder {
                id: clock::new_id(),
                host: host_name(),
                pid: std::process::id(),
            },
        }
    }

    /// Executes a run that this worker holds. Returns `None` if the run was lost to another process, which then ends
    /// it, or if its end could not be recorded.
    pub(super) async fn execute(
        &self,
        spec: &JobSpec,
        run: JobRun,
        stop: StopSignal,
    ) -> Option<RunResult> {
        let watch = Stopwatch::start();
        let began = self.clock.elapsed();
        let running = METRICS.jobs.track_running(&spec.name);
        tracing::info!(job = %spec.name, scheduled_for = %run.scheduled_for, attempt = run.attempt, "a job begins");
        let worked = tokio::select! {
            biased;
            worked = self.run_attempts(spec, &run, stop) => worked,
            () = self.renew_lease(&run) => {
                tracing::error!(job = %spec.name, "a job was stopped: its lease expired, and another process may have it");
                return None;
            }
        };
        let took = (self.clock.elapsed() - began).max(watch.elapsed());
        drop(running);
        self.report_end(spec, &worked, took);
        let end = JobEnd {
            status: worked.status,
            failures: worked.failures,
            at: self.clock.now().max(run.started_at),
            rows: worked.outcome.rows,
            error: worked.error.clone(),
            summary: worked.outcome.summary.clone(),
        };
        let is_ours = self.record_end(&run, &end).await;
        if let (true, Some(webhook)) = (worked.status.is_failure() && is_ours, &self.webhook) {
            webhook.report_failure(spec, &run, &end).await;
        }
        is_ours.then_some(worked)
    }

    /// Renews the run periodically. Returns when this worker no longer holds it.
    async fn renew_lease(&self, run: &JobRun) {
        let mut heard = self.clock.elapsed();
        loop {
            self.clock.sleep(HEARTBEAT_INTERVAL).await;
            // The time before the write counts, because others may see the heartbeat from then on.
            let now = self.clock.elapsed();
            let renewing = self
                .history
                .record_heartbeat(run.id, self.holder.id, self.clock.now());
            // A database that does not answer must not hide that the run is lost.
            let renewed = tokio::select! {
                biased;
                renewed = renewing => renewed,
                () = self.clock.sleep(HEARTBEAT_TIMEOUT.saturating_sub(now - heard)) => return,
            };
            match renewed {
                Ok(true) => heard = now,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(job = %run.job, "cannot renew the lease of a run: {error}");
                    if self.clock.elapsed() - heard >= HEARTBEAT_TIMEOUT {
                        return;
                    }
                }
            }
        }
    }

    /// Executes attempts until one succeeds or no further attempt is allowed.
    async fn run_attempts(&self, spec: &JobSpec, run: &JobRun, stop: StopSignal) -> RunResult {
        let (mut attempt, mut failures, mut busy) = (run.attempt, run.failures, 0);
        let ended = |status, error: Option<String>, failures| RunResult {
            status,
            outcome: JobOutcome::default(),
            error,
            failures,
            cause: FailureCause::Other,
        };
        loop {
            if stop.is_requested() {
                let error = run.error.clone().unwrap_or_else(|| STOPPED.to_owned());
                return ended(RunStatus::Aborted, Some(error), failures);
            }
            let failures_before = failures;
            let (status, error) = match self.run_attempt(spec, run, &stop).await {
                AttemptOutcome::Done(outcome) => {
                    return RunResult {
                        outcome,
                        ..ended(RunStatus::Ok, None, failures)
                    };
                }
                AttemptOutcome::Stopped => {
                    return ended(RunStatus::Aborted, Some(STOPPED.to_owned()), failures);
                }
                AttemptOutcome::Busy(error) if busy == MAX_BUSY_RETRIES || run.by_hand => {
                    return RunResult {
                        cause: FailureCause::Busy,
                        ..ended(RunStatus::Failed, Some(error), failures)
                    };
                }
                AttemptOutcome::Settings(error) => {
                    return RunResult {
                        cause: FailureCause::Settings,
                        ..ended(RunStatus::Failed, Some(error), failures + 1)
                    };
                }
                AttemptOutcome::Busy(error) => {
                    busy += 1;
                    (RunStatus::Failed, error)
                }
                AttemptOutcome::TimedOut => {
                    failures += 1;
                    let after = spec.timeout.as_secs();
                    (
                        RunStatus::TimedOut,
                        format!("exceeded the timeout of the job ({after} s)"),
                    )
                }
                AttemptOutcome::Failed(error) => {
                    failures += 1;
                    (RunStatus::Failed, error)
                }
            };
            if failures > u64::from(spec.retries) {
                return ended(status, Some(error), failures);
            }
            tracing::warn!(job = %spec.name, failures, "a job is retried: {error}");
            // Waiting for other work is not an attempt.
            attempt += failures - failures_before;
            let (holder, now) = (self.holder.id, self.clock.now());
            let again = self
                .history
                .record_retry(run.id, holder, (attempt, failures), &error, now)
                .await;
            if let Err(error) = again {
                tracing::warn!(job = %spec.name, "cannot record the retry of a job: {error}");
            }
            tokio::select! {
                () = self.clock.sleep(backoff(spec.backoff, failures.max(1))) => {}
                () = stop.wait() => return ended(RunStatus::Aborted, Some(error), failures),
            }
        }
    }

    async fn run_attempt(&self, spec: &JobSpec, run: &JobRun, stop: &StopSignal) -> AttemptOutcome {
        let Some(job) = self.jobs.get(spec.kind.name()) else {
            return AttemptOutcome::Failed(format!("cannot run jobs of kind {} here", spec.kind));
        };
        let context = JobContext {
            spec: spec.clone(),
            scheduled_for: run.scheduled_for,
            stop: stop.clone(),
        };
        // A panic in a job must not end the jobs that run beside it.
        let running = AssertUnwindSafe(job.run(&context)).catch_unwind();
        let stopped = async {
            stop.wait().await;
            self.clock.sleep(self.grace).await;
        };
        let outcome = tokio::select! {
            biased;
            outcome = running => outcome,
            () = self.clock.sleep(spec.timeout) => return AttemptOutcome::TimedOut,
            () = stopped => return AttemptOutcome::Stopped,
        };
        match outcome {
            Ok(Ok(outcome)) => AttemptOutcome::Done(outcome),
            Ok(Err(JobFailure::Stopped)) => AttemptOutcome::Stopped,
            Ok(Err(JobFailure::Busy(error))) => AttemptOutcome::Busy(error_text(&*error)),
            Ok(Err(JobFailure::Settings(error))) => AttemptOutcome::Settings(error_text(&*error)),
            Ok(Err(JobFailure::Failed(error))) => AttemptOutcome::Failed(error_text(&*error)),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                AttemptOutcome::Failed(format!("it panicked: {}", text.unwrap_or_default()))
            }
        }
    }

    /// Records how a run ended, with retries for up to `RECORD_TIMEOUT`. Returns false if this worker no longer holds
    /// the run or the end could not be recorded.
    async fn record_end(&self, run: &JobRun, end: &JobEnd) -> bool {
        let began = self.clock.elapsed();
        let mut wait = Duration::from_secs(1);
        loop {
            match self.history.record_end(run.id, self.holder.id, end).await {
                Ok(is_ours) => {
                    if !is_ours {
                        tracing::error!(job = %run.job, "cannot record the result of a job: its run was taken over");
                    }
                    return is_ours;
                }
                Err(error) if self.clock.elapsed() - began < RECORD_TIMEOUT => {
                    tracing::warn!(job = %run.job, "cannot record the result of a job yet: {error}");
                    self.clock.sleep(wait).await;
                    wait = (2 * wait).min(HEARTBEAT_INTERVAL);
                }
                Err(error) => {
                    tracing::error!(job = %run.job, "cannot record the result of a job: {error}");
                    return false;
                }
            }
        }
    }

    fn report_end(&self, spec: &JobSpec, worked: &RunResult, took: Duration) {
        METRICS
            .jobs
            .record_run(&spec.name, worked.status.name(), took, worked.outcome.rows);
        let (job, seconds) = (&spec.name, took.as_secs_f64());
        let error = worked.error.as_deref().unwrap_or_default();
        match worked.status {
            RunStatus::Ok => {
                tracing::info!(%job, seconds, rows = worked.outcome.rows, "a job is done")
            }
            status if status.is_failure() => {
                tracing::error!(%job, seconds, "a job failed: {error}")
            }
            _ => tracing::warn!(%job, seconds, "a job was aborted: {error}"),
        }
    }
}

/// Returns the wait before the next attempt, after this number of failures.
fn backoff(first: Duration, failures: u64) -> Duration {
    let doubled = 2_u32.saturating_pow(u32::try_from(failures - 1).unwrap_or(u32::MAX));
    let wait = first.saturating_mul(doubled).min(MAX_BACKOFF);
    wait.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))
}

/// Returns an error and its causes, truncated to the length that is stored.
fn error_text(error: &(dyn Error + 'static)) -> String {
    let text = redact(&with_causes(error)).into_owned();
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Returns the time before which a run must have ended to be deleted from the history.
pub(super) fn retention_start(
    now: chrono::DateTime<chrono::Utc>,
    history: TimeDelta,
) -> chrono::DateTime<chrono::Utc> {
    now.checked_sub_signed(history)
        .unwrap_or(chrono::DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let second = Duration::from_secs(1);
        for (failures, expected) in [
            (1, 1.0),
            (2, 2.0),
            (5, 16.0),
            (20, 3_600.0),
            (u64::MAX, 3_600.0),
        ] {
            let wait = backoff(second, failures).as_secs_f64();
            assert!(
                (0.79 * expected..=1.21 * expected).contains(&wait),
                "{failures}: {wait}"
            );
        }
    }

    #[test]
    fn error_text_lists_each_cause_once_and_truncates() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(
            error_text(&Outer(std::io::Error::other("inner"))),
            "outer: inner"
        );
        assert_eq!(error_text(&Outer(std::io::Error::other("out"))), "outer");
        assert_eq!(
            error_text(&*Box::<dyn Error>::from("x".repeat(5_000)))
                .chars()
                .count(),
            MAX_ERROR_CHARS + 1
        );
    }
}
