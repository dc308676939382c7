//! The request and the results of a search, and their limits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::SearchError;
use crate::catalog::VisibleAssets;
use crate::model::AssetId;

/// The maximum number of results of a search.
pub const MAX_RESULTS: usize = 1_000;
/// The maximum length of a query in characters. Models read about 250 words of it.
pub const MAX_QUERY_CHARS: usize = 10_000;

/// A search request.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// The query in natural language.
    pub text: String,
    /// The maximum number of results.
    pub limit: usize,
    /// The assets that the user may read.
    pub granted: Arc<VisibleAssets>,
    /// The requested ranking; none for the best available one.
    pub by: Option<RankingMethod>,
}

/// A search result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// The asset.
    pub id: AssetId,
    /// The score of the ranking in `ranked_by`: the cross-encoder's logit, a sum of reciprocal ranks, a cosine, or
    /// BM25. Scores are comparable only within one response and one ranking.
    pub score: f64,
    /// The cosine between the embeddings of the query and of the asset's description; none without a bi-encoder.
    pub similarity: Option<f32>,
    /// The rank, starting at 1.
    pub rank: usize,
    /// The ranking that determined the rank.
    pub ranked_by: RankingMethod,
}

/// A ranking method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankingMethod {
    /// The cross-encoder, which reads query and description together.
    CrossEncoder,
    /// The fused lists of the bi-encoder and of BM25.
    Hybrid,
    /// The bi-encoder, which compares the embeddings of query and description.
    BiEncoder,
    /// BM25, which compares the words of query and description.
    Bm25,
}

impl RankingMethod {
    /// All methods, best first.
    pub const ALL: [Self; 4] = [
        Self::CrossEncoder,
        Self::Hybrid,
        Self::BiEncoder,
        Self::Bm25,
    ];

    /// Returns the name of the method, as used in SQL and on the command line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CrossEncoder => "cross-encoder",
            Self::Hybrid => "hybrid",
            Self::BiEncoder => "bi-encoder",
            Self::Bm25 => "bm25",
        }
    }
}

/// Checks that a request has a valid limit and a valid query.
pub(super) fn check_request(ask: &SearchRequest) -> Result<(), SearchError> {
    if !(1..=MAX_RESULTS).contains(&ask.limit) {
        let asked = ask.limit;
        let problem = format!("the limit must be between 1 and {MAX_RESULTS}, not {asked}");
        return Err(SearchError::Input(problem));
    }
    check_text(&ask.text)
}

/// Checks that a text is a valid query.
pub fn check_text(text: &str) -> Result<(), SearchError> {
    let problem = if text.trim().is_empty() {
        "the text to search for is empty".to_owned()
    } else if text.chars().count() > MAX_QUERY_CHARS {
        format!("the text to search for is longer than {MAX_QUERY_CHARS} characters")
    } else {
        return Ok(());
    };
    Err(SearchError::Input(problem))
}
