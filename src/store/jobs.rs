//! Runs of jobs: which there were, who does one now, and that each due time is run for once.
//!
//! A run is claimed by adding its row: the keys of the table let one in for each due time, and one at a time for each job.
//! Whoever has it adds to its `beats` again and again; where these stand still, another may take it over, by comparing
//! and setting. Times are those of the callers' clocks, and decide nothing.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::database::{Executor, Row, values};
use super::{OrganisationStore, StoreError, new_id};
use crate::config::redact;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Somebody does it.
    Running,
    /// Done.
    Ok,
    /// It failed, as often as it was tried.
    Failed,
    /// It took too long, the last time that it was tried.
    TimedOut,
    /// It was not begun.
    Skipped,
    /// Its process was told to end. One for a due time is done by whoever comes next.
    Aborted,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Ok,
        Self::Failed,
        Self::TimedOut,
        Self::Skipped,
        Self::Aborted,
    ];

    /// As the database, metrics and JSON have it.
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

    /// Whether somebody should look at it.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRun {
    /// Its id.
    pub id: Uuid,
    /// The job.
    pub job: String,
    /// The due time that it is for; of one that somebody asked for, when they did.
    pub scheduled_for: DateTime<Utc>,
    /// Somebody asked for it.
    pub by_hand: bool,
    /// How it stands.
    pub status: RunStatus,
    /// How often it was begun.
    pub attempt: u64,
    /// How often it failed by itself.
    pub failures: u64,
    /// The run of a program that has it.
    #[serde(skip)]
    pub holder: Uuid,
    /// How often that has said so.
    #[serde(skip)]
    pub beats: u64,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process that has it began it.
    pub started_at: DateTime<Utc>,
    /// When that was last heard of.
    pub renewed_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What the job counts.
    pub rows: Option<u64>,
    /// Why it failed, or the last time.
    pub error: Option<String>,
    /// What the job says of it.
    pub summary: Option<serde_json::Value>,
}

/// A program that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobHolder {
    /// This run of the program.
    pub id: Uuid,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// What is known of a job that has a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// The job.
    pub job: String,
    /// Since when it has this schedule.
    pub since: DateTime<Utc>,
    /// The last due time that there is a run for. No time that is in the future counts, here and below: a clock that was
    /// ahead for a while does not hold up the job.
    pub latest: Option<DateTime<Utc>>,
    /// The last that was done.
    pub latest_ok: Option<DateTime<Utc>>,
    /// The last that is over.
    pub latest_ended: Option<DateTime<Utc>>,
    /// When the last run that ended well did, one that somebody asked for included.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// When that one began: what was there then has been done.
    pub done_as_of: Option<DateTime<Utc>>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// How.
    pub status: RunStatus,
    /// How often it failed by itself.
    pub failures: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// What the job counts.
    pub rows: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What the job says of it.
    pub summary: Option<serde_json::Value>,
}

impl JobRun {
    fn read(row: &Row) -> Result<Self, StoreError> {
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
            beats: row.count("beats")?,
            host: row.get("host")?,
            pid: u32::try_from(row.count("pid")?).unwrap_or_default(),
            started_at: row.time("started_at")?,
            renewed_at: row.time("renewed_at")?,
            ended_at: row.optional_time("ended_at")?,
            rows: row.optional_count("rows")?,
            // It may be from before errors were written without credentials.
            error: error.map(|error| redact(&error).into_owned()),
            summary: summary
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|error| StoreError::damaged("summary", &error))?,
        })
    }
}

impl JobState {
    fn read(row: &Row) -> Result<Self, StoreError> {
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
    /// Says which schedule a job has; what is due before `now` is not made up for, if that is new.
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

    /// What is known of jobs that have a schedule or had one, as of `now`.
    pub async fn job_states(&self, now: DateTime<Utc>) -> Result<Vec<JobState>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_states.sql"), values![now])
            .await?;
        rows.iter().map(JobState::read).collect()
    }

    /// The runs that somebody does, and those for the last due time that somebody should.
    pub async fn open_job_runs(&self, now: DateTime<Utc>) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs_open.sql"), values![now])
            .await?;
        rows.iter().map(JobRun::read).collect()
    }

    /// Begins a run. None if there is one for this time, or if the job runs.
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

    /// Writes down that nothing is run for this time. False if there is a run for it.
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

    /// Goes on with a run that another began, if nobody has been heard of since `run` was read.
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
            run.beats,
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
            // It had been aborted, and the job runs for another time by now.
            Err(error) if error.is_duplicate() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a run that another began and is not to go on, if nobody has been heard of since `run` was read.
    pub async fn give_up_job_run(
        &self,
        run: &JobRun,
        status: RunStatus,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let values = values![run.id, run.holder, run.beats, status.name(), now, why];
        let given_up = (&self.database)
            .execute(include_str!("sql/job_run_give_up.sql"), values)
            .await?;
        Ok(given_up > 0)
    }

    /// Says that the run is still being done. False if it is not this holder's any more.
    pub async fn renew_job_run(
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

    /// Says that the run failed and is tried again. False if it is not this holder's any more.
    pub async fn try_job_run_again(
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

    /// Ends a run. False if it is not this holder's any more.
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

    /// The run of this id.
    pub async fn job_run(&self, id: Uuid) -> Result<Option<JobRun>, StoreError> {
        let row = (&self.database)
            .row(include_str!("sql/job_run.sql"), values![id])
            .await?;
        row.as_ref().map(JobRun::read).transpose()
    }

    /// The run of this job that somebody does.
    pub async fn running_job(&self, job: &str) -> Result<Option<JobRun>, StoreError> {
        let row = (&self.database)
            .row(include_str!("sql/job_running.sql"), values![job])
            .await?;
        row.as_ref().map(JobRun::read).transpose()
    }

    /// The last runs, of one job or of all, the newest first.
    pub async fn job_runs(
        &self,
        job: Option<String>,
        last: u64,
    ) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs.sql"), values![job, last])
            .await?;
        rows.iter().map(JobRun::read).collect()
    }

    /// The last run of each job.
    pub async fn last_job_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs_last.sql"), values![])
            .await?;
        rows.iter().map(JobRun::read).collect()
    }

    /// The last run of each job that was done or failed.
    pub async fn last_ended_job_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/job_runs_last_ended.sql"), values![])
            .await?;
        rows.iter().map(JobRun::read).collect()
    }

    /// Forgets runs that ended before `before`. The last of each job and status stay.
    pub async fn forget_job_runs(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        (&self.database)
            .execute(include_str!("sql/job_runs_forget.sql"), values![before])
            .await
    }
}
