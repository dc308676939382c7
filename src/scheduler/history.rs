//! The interface to the store in which runs are recorded and claimed: the organisation database, or a substitute in
//! tests.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::{JobEnd, JobHolder, JobRun, JobState, OrganisationStore, RunStatus, StoreError};

/// The history of runs. [`OrganisationStore`] documents each operation.
#[async_trait]
pub trait RunHistory: Send + Sync {
    /// Records the schedule of a job.
    async fn set_schedule(
        &self,
        job: &str,
        schedule: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
    /// Returns the state of all jobs.
    async fn states(&self, now: DateTime<Utc>) -> Result<Vec<JobState>, StoreError>;
    /// Returns the runs that are not over.
    async fn open_runs(&self, now: DateTime<Utc>) -> Result<Vec<JobRun>, StoreError>;
    /// Returns the run of a job that is not over.
    async fn running_run(&self, job: &str) -> Result<Option<JobRun>, StoreError>;
    /// Claims a run.
    async fn claim(
        &self,
        job: &str,
        scheduled_for: DateTime<Utc>,
        by_hand: bool,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<Option<JobRun>, StoreError>;
    /// Records that a due time is skipped.
    async fn skip(
        &self,
        job: &str,
        scheduled_for: DateTime<Utc>,
        why: &str,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
    /// Takes over the run of another process.
    async fn take_over(
        &self,
        run: &JobRun,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<Option<JobRun>, StoreError>;
    /// Ends the run of another process.
    async fn give_up(
        &self,
        run: &JobRun,
        status: RunStatus,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
    /// Records a heartbeat.
    async fn record_heartbeat(
        &self,
        run: Uuid,
        holder: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
    /// Records that a run is retried: the number of the attempt, and the number of failures.
    async fn record_retry(
        &self,
        run: Uuid,
        holder: Uuid,
        tried: (u64, u64),
        error: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
    /// Ends a run.
    async fn record_end(&self, run: Uuid, holder: Uuid, end: &JobEnd) -> Result<bool, StoreError>;
    /// Deletes old runs.
    async fn delete_before(&self, before: DateTime<Utc>) -> Result<u64, StoreError>;
}

#[async_trait]
impl RunHistory for OrganisationStore {
    async fn set_schedule(
        &self,
        job: &str,
        schedule: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.set_job_schedule(job, schedule, now).await
    }

    async fn states(&self, now: DateTime<Utc>) -> Result<Vec<JobState>, StoreError> {
        self.job_states(now).await
    }

    async fn open_runs(&self, now: DateTime<Utc>) -> Result<Vec<JobRun>, StoreError> {
        self.open_job_runs(now).await
    }

    async fn running_run(&self, job: &str) -> Result<Option<JobRun>, StoreError> {
        self.running_job(job).await
    }

    async fn claim(
        &self,
        job: &str,
        scheduled_for: DateTime<Utc>,
        by_hand: bool,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<Option<JobRun>, StoreError> {
        self.claim_job_run(job, scheduled_for, by_hand, holder, now)
            .await
    }

    async fn skip(
        &self,
        job: &str,
        scheduled_for: DateTime<Utc>,
        why: &str,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.skip_job_run(job, scheduled_for, why, holder, now)
            .await
    }

    async fn take_over(
        &self,
        run: &JobRun,
        holder: &JobHolder,
        now: DateTime<Utc>,
    ) -> Result<Option<JobRun>, StoreError> {
        self.take_over_job_run(run, holder, now).await
    }

    async fn give_up(
        &self,
        run: &JobRun,
        status: RunStatus,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.abandon_job_run(run, status, why, now).await
    }

    async fn record_heartbeat(
        &self,
        run: Uuid,
        holder: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.record_job_heartbeat(run, holder, now).await
    }

    async fn record_retry(
        &self,
        run: Uuid,
        holder: Uuid,
        tried: (u64, u64),
        error: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.record_job_retry(run, holder, tried, error, now).await
    }

    async fn record_end(&self, run: Uuid, holder: Uuid, end: &JobEnd) -> Result<bool, StoreError> {
        self.end_job_run(run, holder, end).await
    }

    async fn delete_before(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        self.delete_old_job_runs(before).await
    }
}
