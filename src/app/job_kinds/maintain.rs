//! The maintenance job: archives or deletes expired data, and compacts the files of the tables.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::kind::DeclaredKind;
use crate::app::resample_job::{JobInputs, to_job_failure};
use crate::jobs::MaintainOptions;
use crate::model::JobKind;
use crate::scheduler::{Job, JobContext, JobFailure, JobOutcome};

pub(super) static MAINTAIN: DeclaredKind = DeclaredKind {
    kind: JobKind::new("maintain", &[]),
    documentation: "[archives, deletes and compacts](retention.md)",
    missing_setting: |_| None,
    create: |inputs| Arc::new(MaintainJob(inputs)),
};

/// Maintains the files of the tables.
struct MaintainJob(JobInputs);

#[async_trait]
impl Job for MaintainJob {
    async fn run(&self, _: &JobContext) -> Result<JobOutcome, JobFailure> {
        let job = self.0.resample_job().map_err(JobFailure::from_error)?;
        let report = job.maintain(&MaintainOptions::default()).await;
        let report = report.map_err(to_job_failure)?;
        let compacted = report.compacted.iter().map(|table| table.rows);
        let expired = report.expired.iter().map(|expired| expired.rows);
        Ok(JobOutcome {
            rows: Some(compacted.chain(expired).sum()),
            left_out: false,
            summary: Some(json!(report)),
        })
    }
}
