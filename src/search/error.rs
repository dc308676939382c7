//! Errors of searches and of the index.

use super::index::IndexError;
use super::models::ModelError;

/// An error of a search or of an update of the index.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query or the limit is invalid.
    #[error("{0}")]
    Input(String),
    /// The requested ranking needs a model that is unavailable.
    #[error(
        "cannot rank by {ranking}: the {model} is unavailable ({problem}); run `plantlake models fetch`, or search without \
         `--by` or with `--by bm25`"
    )]
    NoModel {
        /// The requested ranking.
        ranking: &'static str,
        /// The missing model.
        model: &'static str,
        /// The reason why the model is unavailable.
        problem: String,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The process that owns the index failed.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// There is no index yet.
    #[error("there is no search index yet: {0}")]
    NotReady(String),
    /// A thread ended before its work did.
    #[error("the search was interrupted before it completed")]
    Ended,
}

/// The error for a request that the other process rejected or did not complete.
#[derive(Debug, thiserror::Error)]
#[error("the process that owns the search index ({folder}) failed: {problem}")]
pub struct HandoverError {
    pub(super) folder: String,
    pub(super) problem: String,
}
