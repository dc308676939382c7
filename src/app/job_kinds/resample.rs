//! The resample job: computes averages from raw files.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::kind::DeclaredKind;
use crate::app::resample_job::{JobInputs, to_job_failure};
use crate::jobs::Options;
use crate::model::{ArgumentType, JobKind, day_from_date};
use crate::scheduler::{Job, JobContext, JobFailure, JobOutcome};

pub(super) static RESAMPLE: DeclaredKind = DeclaredKind {
    kind: JobKind::new(
        "resample",
        &[
            ("full", ArgumentType::Boolean),
            ("from", ArgumentType::Date),
            ("to", ArgumentType::Date),
        ],
    ),
    documentation: "updates `data_min`, `data_h` and `data_d` from the raw files",
    missing_setting: |_| None,
    create: |inputs| Arc::new(ResampleJob(inputs)),
};

/// Resamples raw files to averages.
struct ResampleJob(JobInputs);

#[async_trait]
impl Job for ResampleJob {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let spec = &context.spec;
        // Created for each run, because the mapping of the columns may have changed.
        let job = self.0.resample_job().map_err(JobFailure::from_error)?;
        let (from, to) = (spec.date("from"), spec.date("to"));
        let options = Options {
            full: spec.is_set("full"),
            dates: (from.is_some() || to.is_some()).then(|| {
                (
                    from.map_or(i32::MIN, day_from_date),
                    to.map_or(i32::MAX - 1, day_from_date),
                )
            }),
            dry_run: false,
        };
        // The run stops when it is dropped: readers never see an abandoned run, and the next run does its work.
        let report = job.run(&options).await.map_err(to_job_failure)?;
        Ok(JobOutcome {
            rows: Some(report.rows.values().sum()),
            left_out: !report.quarantined.is_empty(),
            summary: Some(json!({
                "run": report.run,
                "outcome": report.outcome,
                "dates": report.dates,
                "files": report.files,
                "readings": report.readings,
                "rows": report.rows,
                "seconds": report.seconds,
            })),
        })
    }
}
