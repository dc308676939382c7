//! Runs of jobs: the history of runs, their current holders, and the guarantee of one run for each due time.
//!
//! A run is claimed by inserting its row. The table's keys allow one run for each due time, and one running run for
//! each job. The holder of a run increments `beats` periodically. If the count does not advance, another process may
//! take the run over by compare-and-set. Times are those of the callers' clocks and decide nothing.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::backend::database::{Executor, Row, values};
use super::error::StoreError;
use super::organisation_store::OrganisationStore;
use crate::clock::new_id;
use crate::config::redact;

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process executes the run.
    Running,
    /// The run succeeded.
    Ok,
    /// The run failed and is not retried.
    Failed,
    /// The last attempt timed out.
    TimedOut,
    /// The run was not started.
    Skipped,
    /// The process was stopped. Another process resumes the run if it is for a due time.
    Aborted,
}

impl RunStatus {
    /// All statuses.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Ok,
        Self::Failed,
        Self::TimedOut,
        Self::Skipped,
        Self::Aborted,
    ];

    /// Returns the name used in the database, in metrics and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Skipped => "skipped",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the status requires attention.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }
}

/// A run of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRun {
    /// The run's id.
    pub id: Uuid,
    /// The job's name.
    pub job: String,
    /// The due time of the run; for a run started by hand, the time of the request.
    pub scheduled_for: DateTime<Utc>,
    /// Whether the run was started by hand.
    pub by_hand: bool,
    /// The status.
    pub status: RunStatus,
    /// The number of attempts started. A run that resumes after its process was stopped continues its attempt.
    pub attempt: u64,
    /// The number of attempts that failed by themselves, rather than with their process.
    pub failures: u64,
    /// The id of the process instance that holds the run.
    #[serde(skip)]
    pub holder: Uuid,
    /// The heartbeat counter of the run.
    #[serde(skip)]
    pub heartbeats: u64,
    /// The holder's host.
    pub host: String,
    /// The holder's process id.
    pub pid: u32,
    /// The time at which the holder started the run.
    pub started_at: DateTime<Utc>,
    /// The time of the last heartbeat.
    pub renewed_at: DateTime<Utc>,
    /// The time at which the run ended, if it has.
    pub ended_at: Option<DateTime<Utc>>,
    /// The count that the job reports.
    pub rows: Option<u64>,
    /// The error of the last failed attempt.
    pub error: Option<String>,
    /// The job's summary of the run.
    pub summary: Option<serde_json::Value>,
}

/// A process that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobHolder {
    /// The id of this instance of the process.
    pub id: Uuid,
    /// The host.
    pub host: String,
    /// The process id.
    pub pid: u32,
}

/// The known state of a job with a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// The job's name.
    pub job: String,
    /// The time since which the job has this schedule.
    pub since: DateTime<Utc>,
    /// The last due time that has a run. Due times in the future are ignored, here and in the following fields: a clock
    /// that was ahead for a while neither blocks the job nor hides that it no longer succeeds.
    pub latest: Option<DateTime<Utc>>,
    /// The last due time whose run succeeded.
    pub latest_ok: Option<DateTime<Utc>>,
    /// The last due time whose run is over.
    pub latest_ended: Option<DateTime<Utc>>,
    /// The end of the last successful run, runs started by hand included.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// The start of that run: it has processed everything that existed then.
    pub done_as_of: Option<DateTime<Utc>>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// The final status.
    pub status: RunStatus,
    /// The number of attempts that failed by themselves.
    pub failures: u64,
    /// The time of the end.
    pub at: DateTime<Utc>,
    /// The count that the job reports.
    pub rows: Option<u64>,
    /// The error, if the run failed.
    pub error: Option<String>,
    /// The job's summary of the run.
    pub summary: Option<serde_json::Value>,
}

impl JobRun {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        let status: String = row.get("status")?;
        let known = RunStatus::ALL
            .into_iter()
            .find(|known| known.name() == status);
        let summary: Option<String> = row.get("summary")?;
        let error: Option<String> = row.get("error")?;
        Ok(Self {
            id: row.id("id")?,
            job: row.get("job")?,
            scheduled_for: row.time("scheduled_for")?,
            by_hand: row.get("by_hand")?,
            status: known.ok_or_else(|| StoreError::damaged("status", &status))?,
            attempt: row.count("attempt")?,
            failures: row.count("failures")?,
            holder: row.id("holder")?,
            heartbeats: row.count("beats")?,
            host: row.get("host")?,
            pid: u32::try_from(row.count("pid")?).unwrap_or_default(),
            started_at: row.time("started_at")?,
            renewed_at: row.time("renewed_at")?,
            ended_at: row.optional_time("ended_at")?,
            rows: row.optional_count("rows")?,
            // The error may date from before errors were stored without credentials.
            error: error.map(|error| redact(&error).into_owned()),
            summary: summary
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|error| StoreError::damaged("summary", &error))?,
        })
    }
}

impl JobState {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            job: row.get("job")?,
            since: row.time("since")?,
            latest: row.optional_time("latest")?,
            latest_ok: row.optional_time("latest_ok")?,
            latest_ended: row.optional_time("latest_ended")?,
            succeeded_at: row.optional_time("succeeded_at")?,
            done_as_of: row.optional_time("done_as_of")?,
        })
    }
}

impl OrganisationStore {
    /// Records the schedule of a job. If the schedule is new, due times before `now` are not run later.
    pub async fn set_job_schedule(
        &self,
        job: &str,
        schedule: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let values = values![job, schedule, now];
        (&self.database)
            .execute(include_str!("sql/job_schedule_set.sql"), values)
            .await?;
        Ok(())
    }

    /// Returns the state of all jobs that have or had a schedule, as of `now`.
    pub async fn job_states(&self, now: DateTime<Utc>) -> Result<Vec<JobState>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_states.sql"), values![now])
            .await?;
        rows.iter().map(JobState::from_row).collect()
    }

    /// Returns the runs in progress, and the aborted runs for the last due time of a job, which a process should
    /// resume.
    pub async fn open_job_runs(&self, now: DateTime<Utc>) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs_open.sql"), values![now])
            .await?;
        rows.iter().map(JobRun::from_row).collect()
    }

    /// Claims a run. Returns `None` if a run for this time exists or the job is already running.
    pub async fn claim_job_run(
        &self,
        job: &str,
        scheduled_for: DateTime<Utc>,
        by_hand: bool,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<Option<JobRun>, StoreError> {
        let id = new_id();
        let pid = i64::from(holder.pid);
        let values = values![
            id,
            job,
            scheduled_for,
            by_hand,
            holder.id,
            &holder.host,
            pid,
            now
        ];
        let claimed = (&self.database)
            .execute(include_str!("sql/job_run_add.sql"), values)
            .await?;
        match claimed {
            0 => Ok(None),
            _ => self.job_run(id).await,
        }
    }

    /// Records that nothing is run for this time. Returns false if a run for it exists.
    pub async fn skip_job_run(
        &self,
        job: &str,
        scheduled_for: DateTime<Utc>,
        why: &str,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let pid = i64::from(holder.pid);
        let values = values![
            new_id(),
            job,
            scheduled_for,
            holder.id,
            &holder.host,
            pid,
            now,
            why
        ];
        let skipped = (&self.database)
            .execute(include_str!("sql/job_run_skip.sql"), values)
            .await?;
        Ok(skipped > 0)
    }

    /// Takes over a run that another process started, if it had no heartbeat since `run` was read; otherwise returns
    /// `None`.
    pub async fn take_over_job_run(
        &self,
        run: &JobRun,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<Option<JobRun>, StoreError> {
        let pid = i64::from(holder.pid);
        let values = values![
            run.id,
            run.holder,
            run.heartbeats,
            holder.id,
            &holder.host,
            pid,
            now
        ];
        let taken = (&self.database)
            .execute(include_str!("sql/job_run_take_over.sql"), values)
            .await;
        match taken {
            Ok(0) => Ok(None),
            Ok(_) => self.job_run(run.id).await,
            // The run had been aborted, and the job is already running for another time.
            Err(error) if error.is_duplicate() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a run that another process started and that is not to be resumed, if it had no heartbeat since `run` was
    /// read; otherwise returns false.
    pub async fn abandon_job_run(
        &self,
        run: &JobRun,
        status: RunStatus,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let values = values![run.id, run.holder, run.heartbeats, status.name(), now, why];
        let given_up = (&self.database)
            .execute(include_str!("sql/job_run_give_up.sql"), values)
            .await?;
        Ok(given_up > 0)
    }

    /// Records a heartbeat of the run. Returns false if this holder has lost it.
    pub async fn record_job_heartbeat(
        &self,
        run: Uuid,
        holder: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let values = values![run, holder, now];
        let renewed = (&self.database)
            .execute(include_str!("sql/job_run_renew.sql"), values)
            .await?;
        Ok(renewed > 0)
    }

    /// Records that the run failed and is retried. Returns false if this holder has lost it.
    pub async fn record_job_retry(
        &self,
        run: Uuid,
        holder: Uuid,
        (attempt, failures): (u64, u64),
        error: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let values = values![run, holder, attempt, failures, error, now];
        let noted = (&self.database)
            .execute(include_str!("sql/job_run_again.sql"), values)
            .await?;
        Ok(noted > 0)
    }

    /// Ends a run. Returns false if this holder has lost it.
    pub async fn end_job_run(
        &self,
        run: Uuid,
        holder: Uuid,
        end: &JobEnd,
    ) -> Result<bool, StoreError> {
        let values = values![
            run,
            holder,
            end.status.name(),
            end.failures,
            end.at,
            end.rows,
            end.error.clone(),
            end.summary.as_ref().map(ToString::to_string)
        ];
        let ended = (&self.database)
            .execute(include_str!("sql/job_run_end.sql"), values)
            .await?;
        Ok(ended > 0)
    }

    /// Returns the run with this id.
    pub async fn job_run(&self, id: Uuid) -> Result<Option<JobRun>, StoreError> {
        let row = (&self.database)
            .row(include_str!("sql/job_run.sql"), values![id])
            .await?;
        row.as_ref().map(JobRun::from_row).transpose()
    }

    /// Returns the run of this job that is in progress, if there is one.
    pub async fn running_job(&self, job: &str) -> Result<Option<JobRun>, StoreError> {
        let row = (&self.database)
            .row(include_str!("sql/job_running.sql"), values![job])
            .await?;
        row.as_ref().map(JobRun::from_row).transpose()
    }

    /// Returns the last runs of one job or of all jobs, the newest first.
    pub async fn job_runs(
        &self,
        job: Option<String>,
        last: u64,
    ) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs.sql"), values![job, last])
            .await?;
        rows.iter().map(JobRun::from_row).collect()
    }

    /// Returns the last run of each job.
    pub async fn last_job_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs_last.sql"), values![])
            .await?;
        rows.iter().map(JobRun::from_row).collect()
    }

    /// Returns the last run of each job that succeeded, failed or timed out.
    pub async fn last_ended_job_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs_last_ended.sql"), values![])
            .await?;
        rows.iter().map(JobRun::from_row).collect()
    }

    /// Deletes runs that ended before `before`, except the last scheduled and the last manual run of each job and
    /// status. Returns the number of deleted runs.
    pub async fn delete_old_job_runs(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        (&self.database)
            .execute(include_str!("sql/job_runs_forget.sql"), values![before])
            .await
    }
}
