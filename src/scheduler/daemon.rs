//! The daemon: checks what is due, runs the jobs that it can claim, and resumes runs that other processes left behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::due::{JobAction, decide};
use super::job::StopSignal;
use super::worker::{LEASE_TIMEOUT, Worker, retention_start};
use crate::metrics::METRICS;
use crate::model::JobSpec;
use crate::store::{JobRun, RunStatus, StoreError};

/// The maximum number of times that a run is resumed after its process ended. If the process then dies once more, the
/// run has failed, because the job may be the cause.
const MAX_PROCESS_DEATHS: u64 = 10;
/// The interval between deletions of old runs.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3_600);
/// The wait before the next check when the database is unavailable.
const DATABASE_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The intervals between checks.
#[derive(Debug, Clone, Copy)]
pub struct CheckIntervals {
    /// The maximum interval; a due job shortens it.
    pub idle: Duration,
    /// The maximum interval while others run jobs, or while a job waits for another.
    pub busy: Duration,
}

impl Default for CheckIntervals {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10),
            busy: Duration::from_secs(2),
        }
    }
}

/// Runs jobs when they are due.
pub struct Scheduler {
    /// Executes the runs.
    pub worker: Arc<Worker>,
    /// The declared jobs, which may change.
    pub specs: watch::Receiver<Arc<[JobSpec]>>,
    /// The retention of runs in the history.
    pub history: TimeDelta,
    /// The intervals between checks.
    pub intervals: CheckIntervals,
}

/// The daemon's state from one check to the next.
#[derive(Default)]
struct DaemonState {
    /// Jobs that run in this process.
    running_jobs: HashSet<String>,
    /// Runs of other processes: the heartbeat counter, and the time of its last change.
    heartbeats: HashMap<Uuid, (u64, Duration)>,
    /// The jobs whose schedules were recorded.
    recorded_specs: Option<Arc<[JobSpec]>>,
    /// The time of the last deletion of old runs.
    last_cleanup: Option<Duration>,
    /// Whether the database was unavailable at the last check.
    is_database_unavailable: bool,
}

impl Scheduler {
    /// Runs jobs until `stop`, and then waits until the running ones have ended.
    pub async fn run(mut self, stop: StopSignal) {
        let mut memory = DaemonState::default();
        let mut running: JoinSet<String> = JoinSet::new();
        while !stop.is_requested() {
            let wait = match self.check(&mut memory, &mut running, &stop).await {
                Ok(wait) => {
                    memory.is_database_unavailable = false;
                    METRICS.health.record_database_response();
                    wait
                }
                Err(error) => {
                    if !memory.is_database_unavailable {
                        tracing::error!("cannot check which jobs are due: {error}");
                    }
                    memory.is_database_unavailable = true;
                    DATABASE_RETRY_INTERVAL
                }
            };
            tokio::select! {
                () = self.worker.clock.sleep(wait) => {}
                Some(ended) = running.join_next() => remove_ended(&mut memory, ended),
                () = stop.wait() => {}
                Ok(()) = self.specs.changed() => {}
            }
            while let Some(ended) = running.try_join_next() {
                remove_ended(&mut memory, ended);
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Starts what is due now. Returns the wait before the next check.
    async fn check(
        &self,
        memory: &mut DaemonState,
        running: &mut JoinSet<String>,
        stop: &StopSignal,
    ) -> Result<Duration, StoreError> {
        let history = &*self.worker.history;
        let specs = Arc::clone(&self.specs.borrow());
        let now = self.worker.clock.now();
        if memory
            .recorded_specs
            .as_ref()
            .is_none_or(|noted| !Arc::ptr_eq(noted, &specs))
        {
            for spec in specs.iter() {
                if let Some(schedule) = &spec.schedule {
                    history
                        .set_schedule(&spec.name, &schedule.to_string(), now)
                        .await?;
                }
            }
            memory.recorded_specs = Some(Arc::clone(&specs));
        }
        // Runs are read before states: a run that ends in between then appears as running, rather than as never
        // started.
        let open = history.open_runs(now).await?;
        let states = history.states(now).await?;
        for state in &states {
            let spec = specs.iter().find(|spec| spec.name == state.job);
            let Some(spec) = spec else { continue };
            if let Some(at) = state.succeeded_at {
                METRICS.jobs.set_last_success(&state.job, at.timestamp());
            }
            let job = self.worker.jobs.get(spec.kind.name());
            if let (Some(job), Some(at)) = (job, state.done_as_of) {
                job.report_done_as_of(at);
            }
        }
        self.report_next_due(&specs, now);
        let mut busy = false;
        let mut taken: HashSet<&str> = HashSet::new();
        for run in &open {
            taken.insert(&run.job);
            if memory.running_jobs.contains(&run.job) {
                continue;
            }
            busy |= if self.is_abandoned(run, memory) {
                self.resume(run, &specs, memory, running, stop, now).await?
            } else {
                true
            };
        }
        memory
            .heartbeats
            .retain(|id, _| open.iter().any(|run| run.id == *id));
        let outlook = decide(&specs, &states, now);
        for (job, step) in outlook.actions {
            if taken.contains(job.as_str()) || memory.running_jobs.contains(&job) {
                continue;
            }
            match step {
                JobAction::Idle => {}
                JobAction::Wait => busy = true,
                JobAction::Skip { at, reason: why } => {
                    if history
                        .skip(&job, at, &why, &self.worker.holder, now)
                        .await?
                    {
                        tracing::warn!(%job, scheduled_for = %at, "a job is skipped: {why}");
                        METRICS.jobs.count_skipped(&job);
                    }
                    // Other jobs may wait for this one.
                    busy = true;
                }
                JobAction::Run(at) => {
                    let claimed = history
                        .claim(&job, at, false, &self.worker.holder, now)
                        .await?;
                    match claimed {
                        Some(run) => self.start(run, &specs, memory, running, stop),
                        // Another process was faster.
                        None => busy = true,
                    }
                }
            }
        }
        self.delete_old_runs(memory, now).await?;
        let latest = if busy {
            self.intervals.busy
        } else {
            self.intervals.idle
        };
        let next = outlook
            .next
            .map(|next| (next - now).to_std().unwrap_or_default());
        Ok(next.map_or(latest, |next| next.min(latest)))
    }

    /// Whether the run was aborted, or has had no heartbeat for the duration of a lease.
    fn is_abandoned(&self, run: &JobRun, memory: &mut DaemonState) -> bool {
        if run.status == RunStatus::Aborted {
            return true;
        }
        let now = self.worker.clock.elapsed();
        let (beats, since) = memory
            .heartbeats
            .entry(run.id)
            .or_insert((run.heartbeats, now));
        if *beats != run.heartbeats {
            (*beats, *since) = (run.heartbeats, now);
        }
        now - *since >= LEASE_TIMEOUT
    }

    /// Resumes a run that was left behind, or ends it. Returns whether others may act on it soon. That is never the case
    /// for an aborted run whose job is no longer declared: it stays as it is.
    async fn resume(
        &self,
        run: &JobRun,
        specs: &Arc<[JobSpec]>,
        memory: &mut DaemonState,
        running: &mut JoinSet<String>,
        stop: &StopSignal,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let history = &*self.worker.history;
        let is_declared = specs
            .iter()
            .any(|spec| spec.name == run.job && spec.schedule.is_some());
        let deaths = run.attempt.saturating_sub(1 + run.failures);
        if !is_declared || run.by_hand {
            if run.status == RunStatus::Running {
                let why = "its process ended while it ran";
                history.give_up(run, RunStatus::Aborted, why, now).await?;
                tracing::warn!(job = %run.job, host = %run.host, pid = run.pid, "a run was given up: {why}");
            }
            return Ok(false);
        }
        if run.status == RunStatus::Running && deaths >= MAX_PROCESS_DEATHS {
            let why = format!("its process ended while it ran, {} times", deaths + 1);
            if history.give_up(run, RunStatus::Failed, &why, now).await? {
                tracing::error!(job = %run.job, "a job failed: {why}");
                METRICS
                    .jobs
                    .record_run(&run.job, RunStatus::Failed.name(), Duration::ZERO, None);
            }
            // Other jobs may wait for this one.
            return Ok(true);
        }
        if let Some(taken) = history.take_over(run, &self.worker.holder, now).await? {
            tracing::warn!(job = %run.job, host = %run.host, pid = run.pid, "a run of another process is taken over");
            METRICS.jobs.count_taken_over(&run.job);
            self.start(taken, specs, memory, running, stop);
            return Ok(false);
        }
        // Another process was faster, or runs the job for another due time.
        Ok(true)
    }

    fn start(
        &self,
        run: JobRun,
        specs: &Arc<[JobSpec]>,
        memory: &mut DaemonState,
        running: &mut JoinSet<String>,
        stop: &StopSignal,
    ) {
        let Some(spec) = specs.iter().find(|spec| spec.name == run.job).cloned() else {
            return;
        };
        memory.running_jobs.insert(spec.name.clone());
        let (worker, stop) = (Arc::clone(&self.worker), stop.clone());
        running.spawn(async move {
            worker.execute(&spec, run, stop).await;
            spec.name
        });
    }

    /// Reports in metrics when jobs are due next.
    fn report_next_due(&self, specs: &[JobSpec], now: DateTime<Utc>) {
        METRICS
            .jobs
            .set_declared_jobs(specs.iter().map(|spec| spec.name.as_str()));
        for spec in specs {
            if let Some(next) = spec
                .schedule
                .as_ref()
                .and_then(|schedule| schedule.next_after(now))
            {
                METRICS.jobs.set_next_due(&spec.name, next.timestamp());
            }
        }
    }

    async fn delete_old_runs(
        &self,
        memory: &mut DaemonState,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let elapsed = self.worker.clock.elapsed();
        if memory
            .last_cleanup
            .is_none_or(|forgot| elapsed - forgot >= CLEANUP_INTERVAL)
        {
            self.worker
                .history
                .delete_before(retention_start(now, self.history))
                .await?;
            memory.last_cleanup = Some(elapsed);
        }
        Ok(())
    }
}

fn remove_ended(memory: &mut DaemonState, ended: Result<String, tokio::task::JoinError>) {
    match ended {
        Ok(job) => {
            memory.running_jobs.remove(&job);
        }
        // Its run is taken over when its lease has expired, by this process or another.
        Err(error) => {
            tracing::error!("the task of a job failed: {error}");
            memory.running_jobs.clear();
        }
    }
}
