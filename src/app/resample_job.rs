//! Creates the job on the lake, which resamples and maintains the tables.

use std::sync::Arc;

use crate::config::Settings;
use crate::jobs::spec::{ResampleSpec, SpecError};
use crate::jobs::{self as batch, JobError, Progress};
use crate::lake::delta::table_columns::current_schema;
use crate::lake::records::lease::LeaseError;
use crate::lake::{Store, StoreError};
use crate::model::JobKind;
use crate::scheduler::JobFailure;

/// An error of creating the resample job.
#[derive(Debug, thiserror::Error)]
pub enum ResampleJobError {
    /// The lake or the raw folder cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The declaration of the job is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// The inputs from which jobs are created.
#[derive(Clone)]
pub(super) struct JobInputs {
    pub settings: Settings,
    /// The progress of work on raw files.
    pub progress: Arc<dyn Progress>,
    /// All kinds of jobs, to check their files.
    pub kinds: Arc<[JobKind]>,
}

impl JobInputs {
    /// Creates the job on the lake, and the folder of the lake if it does not exist.
    pub fn resample_job(&self) -> Result<batch::Job, ResampleJobError> {
        let settings = &self.settings;
        // The raw files come first: without them, no lake is created.
        let raw = Store::open_existing(&settings.raw, settings.storage.options())?;
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        self.job_on(lake, raw)
    }

    /// Creates the job on a lake that exists.
    pub fn existing_resample_job(&self) -> Result<batch::Job, ResampleJobError> {
        let settings = &self.settings;
        let lake = Store::open_existing_lake(&settings.lake, settings.storage.options())?;
        let raw = Store::open_existing(&settings.raw, settings.storage.options())?;
        self.job_on(lake, raw)
    }

    fn job_on(&self, lake: Store, raw: Store) -> Result<batch::Job, ResampleJobError> {
        Ok(batch::Job {
            lake,
            raw,
            spec: ResampleSpec::read(&self.settings.jobs, &self.kinds)?,
            settings: self.settings.clone(),
            schema: current_schema().clone(),
            progress: Arc::clone(&self.progress),
        })
    }
}

/// Converts the error of a run on the lake. A run that another run keeps from starting is busy, not failed.
pub(super) fn to_job_failure(error: JobError) -> JobFailure {
    match error {
        JobError::Lease(LeaseError::Held { .. }) => JobFailure::Busy(Box::new(error)),
        error => JobFailure::from_error(error),
    }
}
