//! The index job: updates the search index from the catalog.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::kind::DeclaredKind;
use crate::app::search::{index_folder, search};
use crate::catalog::Snapshot;
use crate::config::Settings;
use crate::model::{ArgumentType, JobKind};
use crate::scheduler::{Job, JobContext, JobFailure, JobOutcome};
use crate::search::handover::{Outcome, Request, send_request};
use crate::search::index::IndexError;
use crate::search::{IndexReport, SearchError};

pub(super) static INDEX: DeclaredKind = DeclaredKind {
    kind: JobKind::new("index", &[("full", ArgumentType::Boolean)]),
    documentation: "updates the [search](search.md) index from the catalog; beside a server, the server does it",
    missing_setting: |_| None,
    create: |inputs| Arc::new(IndexJob(inputs.settings)),
};

/// Updates the search index from the catalog. If a server has the index open, the server does it.
struct IndexJob(Settings);

#[async_trait]
impl Job for IndexJob {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let report = self.index(context.spec.is_set("full")).await?;
        Ok(JobOutcome {
            rows: Some(report.indexed as u64),
            left_out: false,
            summary: Some(json!(report)),
        })
    }
}

impl IndexJob {
    async fn index(&self, full: bool) -> Result<IndexReport, JobFailure> {
        let settings = &self.0;
        if settings.qdrant.url.is_none() {
            let folder = index_folder(settings);
            let request = Request::Index { full };
            match send_request(&folder, &request, &|_| {}).await {
                Some(Ok(Outcome::Indexed(report))) => return Ok(report),
                Some(Ok(Outcome::Found { .. })) => {
                    return Err(JobFailure::from_error(
                        "the server runs another version of plantlake",
                    ));
                }
                Some(Err(error)) => return Err(JobFailure::from_error(error)),
                None => {}
            }
        }
        let search = search(settings, true).map_err(JobFailure::from_error)?;
        let snapshot = Snapshot::read(&settings.catalog).map_err(JobFailure::from_error)?;
        let report = search.index(&snapshot, full, &|_| {}).await;
        report.map_err(|error| match error {
            error @ SearchError::Index(IndexError::InUse { .. }) => {
                JobFailure::Busy(Box::new(error))
            }
            error => JobFailure::from_error(error),
        })
    }
}
