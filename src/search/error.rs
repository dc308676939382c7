//! What can go wrong with a search, and with keeping the index.

use super::handover::HandoverFailed;
use super::index::IndexError;
use super::models::ModelError;

/// Why nothing is found, or indexed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// What was asked for cannot be looked for.
    #[error("{0}")]
    Input(String),
    /// The way of ranking that was asked for needs a model.
    #[error(
        "ranking by {ranking} needs the {model}, which is not here ({problem}); `plantlake models fetch` gets it, and \
         without `--by`, or with `--by bm25`, the search does with what there is"
    )]
    NoModel {
        /// How it was to be ranked.
        ranking: &'static str,
        /// Which model.
        model: &'static str,
        /// Why it is not.
        problem: String,
    },
    /// The index cannot do it.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A model cannot do it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The process that has the index cannot do it.
    #[error(transparent)]
    Handover(#[from] HandoverFailed),
    /// There is nothing to search in yet.
    #[error("there is no search index yet: {0}")]
    NotReady(String),
    /// A thread ended before its work did.
    #[error("the search was ended before it was done")]
    Ended,
}
