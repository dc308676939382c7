//! The search: looks up the query's words and its embedding, fuses the two lists, and re-ranks the best results with
//! the cross-encoder. A missing model is skipped; each result states how it was ranked.

mod index_passes;

use std::path::Path;
use std::sync::Arc;

use quick_cache::sync::Cache;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::bm25;
use super::describe::describe;
use super::error::SearchError;
use super::fusion::fuse;
use super::handover::{Outcome, Request, send_request};
use super::index::{Hits, IndexError, IndexQuery, VectorIndex, WordVector};
use super::indexing::ReadyCollection;
use super::model_runner::ModelRunner;
use super::models::{BiEncoder, CrossEncoder, Models};
use super::request::{RankingMethod, SearchRequest, SearchResult, check_request};
use crate::catalog::{Snapshot, VisibleAssets};
use crate::model::AssetId;

/// The minimum length of each list, because fusion needs more candidates than results.
const MIN_CANDIDATES: usize = 100;
/// The number of results that the cross-encoder re-ranks; each takes milliseconds.
const RERANKED_RESULTS: usize = 20;
/// The number of cached query embeddings.
const CACHED_QUERY_EMBEDDINGS: usize = 1_000;

/// The state of the index.
#[derive(Debug, Clone)]
enum State {
    /// No search has needed the index yet.
    Unknown,
    /// The last pass failed before the index was searchable.
    Failed(String),
    Ready(ReadyCollection),
}

/// A handle to the search and its index. Cheap to clone; the index and the models are opened at their first use.
#[derive(Debug, Clone)]
pub struct Search {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    models: Models,
    index: Arc<dyn VectorIndex>,
    runs: ModelRunner,
    state: watch::Sender<State>,
    /// Held during a pass, so that passes do not overlap.
    pass_lock: Mutex<()>,
    /// Whether a search waits for the embeddings, too; set if no other task computes them.
    waits_for_embeddings: bool,
    /// Embeddings of queries, by model and text.
    query_embeddings: Cache<(String, String), Arc<Vec<f32>>>,
}

impl Search {
    /// Creates a search with `models` over `index`. With `waits_for_embeddings`, the first search waits until all
    /// assets are embedded; without, only until their words are indexed. Must be called in a Tokio runtime, which
    /// then runs the work.
    pub fn new(models: Models, index: Arc<dyn VectorIndex>, waits_for_embeddings: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                models,
                index,
                runs: ModelRunner::in_current_runtime(),
                state: watch::Sender::new(State::Unknown),
                pass_lock: Mutex::new(()),
                waits_for_embeddings,
                query_embeddings: Cache::new(CACHED_QUERY_EMBEDDINGS),
            }),
        }
    }

    /// Whether the searched collection has embeddings.
    pub fn has_embeddings(&self) -> bool {
        matches!(&*self.shared.state.borrow(), State::Ready(ready) if ready.model.is_some())
    }

    /// Searches the assets of `snapshot` and returns the results, best first. Dropping the future cancels the search.
    pub async fn search(
        &self,
        ask: &SearchRequest,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<SearchResult>, SearchError> {
        check_request(ask)?;
        // The caller's runtime may end before the connections to a Qdrant server do.
        let mut found = JoinSet::new();
        let (search, ask, snapshot) = (self.clone(), ask.clone(), Arc::clone(snapshot));
        found.spawn_on(
            async move { search.run_search(&ask, &snapshot).await },
            &self.shared.runs.runtime,
        );
        match found.join_next().await {
            Some(Ok(found)) => found,
            _ => Err(SearchError::Ended),
        }
    }

    async fn run_search(
        &self,
        ask: &SearchRequest,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<SearchResult>, SearchError> {
        if matches!(&*ask.granted, VisibleAssets::Only(ids) if ids.is_empty()) {
            return Ok(Vec::new());
        }
        let ready = match self.ready(snapshot).await {
            // A search on this machine beside a server, which owns the index.
            Err(SearchError::Index(error @ IndexError::InUse { .. })) => {
                return self.search_in_owner(ask, snapshot, error).await;
            }
            ready => ready?,
        };
        match self.search_collection(&ready, ask, snapshot).await {
            // Another server with the same index has activated another collection.
            Err(SearchError::Index(IndexError::Missing { .. })) => {
                self.shared.state.send_replace(State::Unknown);
                let ready = self.ready(snapshot).await?;
                self.search_collection(&ready, ask, snapshot).await
            }
            found => found,
        }
    }

    /// Hands the search over to the process that owns the index, if it accepts requests. Only for users who may read
    /// all assets.
    async fn search_in_owner(
        &self,
        ask: &SearchRequest,
        snapshot: &Snapshot,
        in_use: IndexError,
    ) -> Result<Vec<SearchResult>, SearchError> {
        let (IndexError::InUse { folder, .. }, VisibleAssets::All) = (&in_use, &*ask.granted)
        else {
            return Err(in_use.into());
        };
        let request = Request::Search {
            text: ask.text.clone(),
            limit: ask.limit,
            by: ask.by,
        };
        match send_request(Path::new(folder), &request, &|_| ()).await {
            Some(Ok(Outcome::Found { mut found, .. })) => {
                found.retain(|found| snapshot.asset(found.id).is_some());
                Ok(found)
            }
            Some(Err(failed)) => Err(failed.into()),
            Some(Ok(Outcome::Indexed(_))) | None => Err(in_use.into()),
        }
    }

    async fn search_collection(
        &self,
        ready: &ReadyCollection,
        ask: &SearchRequest,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<SearchResult>, SearchError> {
        let meaning = self.query_embedding(ask, ready).await?;
        let looks_at_words = ask.by != Some(RankingMethod::BiEncoder);
        let lookup = IndexQuery {
            embedding: meaning.as_deref().cloned(),
            words: match looks_at_words {
                true => bm25::query_vector(&ask.text),
                false => WordVector::default(),
            },
            granted: Arc::clone(&ask.granted),
            limit: ask.limit.max(MIN_CANDIDATES),
        };
        let hits = self.shared.index.search(&ready.collection, lookup).await?;
        let ranked_by = match (&meaning, looks_at_words) {
            (None, _) => RankingMethod::Bm25,
            (Some(_), true) => RankingMethod::Hybrid,
            (Some(_), false) => RankingMethod::BiEncoder,
        };
        let mut found = to_results(&hits, ranked_by);
        // The index may be of an older catalog, and access control does not rely on it.
        found.retain(|found| ask.granted.contains(found.id) && snapshot.asset(found.id).is_some());
        found = self.rerank(ask, found, snapshot).await?;
        found.truncate(ask.limit);
        for (rank, found) in (1..).zip(&mut found) {
            found.rank = rank;
        }
        if let Some(meaning) = meaning {
            self.add_similarities(ready, meaning, &hits, &mut found)
                .await?;
        }
        Ok(found)
    }

    /// Returns the embedding of the query, from the model that the index was built with; none if that is unavailable.
    async fn query_embedding(
        &self,
        ask: &SearchRequest,
        ready: &ReadyCollection,
    ) -> Result<Option<Arc<Vec<f32>>>, SearchError> {
        let is_needed = matches!(
            ask.by,
            Some(RankingMethod::BiEncoder | RankingMethod::Hybrid)
        );
        let lacking = |problem: &str| match (ask.by, is_needed) {
            (Some(by), true) => Err(SearchError::NoModel {
                ranking: by.text(),
                model: "bi-encoder",
                problem: problem.to_owned(),
            }),
            _ => Ok(None),
        };
        if ask.by == Some(RankingMethod::Bm25) {
            return Ok(None);
        }
        let Some(model) = &ready.model else {
            return lacking("the index has no embeddings, or not all of them yet");
        };
        let key = (model.clone(), ask.text.clone());
        if let Some(meaning) = self.shared.query_embeddings.get(&key) {
            return Ok(Some(meaning));
        }
        let (models, text) = (self.shared.models.clone(), ask.text.clone());
        let wanted = model.clone();
        let embedded = self.shared.runs.run(move |stop| {
            let encoder: Option<Arc<BiEncoder>> = models.bi_encoder()?;
            let encoder = encoder.filter(|encoder| encoder.fingerprint() == wanted);
            let Some(encoder) = encoder else {
                return Ok(None);
            };
            Ok(encoder.embed(&[&text], stop)?.pop())
        });
        match embedded.await {
            Ok(Some(meaning)) => {
                let meaning = Arc::new(meaning);
                self.shared
                    .query_embeddings
                    .insert(key, Arc::clone(&meaning));
                Ok(Some(meaning))
            }
            Ok(None) => lacking("the index was built with another bi-encoder"),
            Err(SearchError::Model(error)) => {
                tracing::warn!(
                    "cannot use the bi-encoder, so assets are found by words only: {error}"
                );
                lacking(&error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// Re-ranks the best results with the cross-encoder, if there is one.
    async fn rerank(
        &self,
        ask: &SearchRequest,
        mut found: Vec<SearchResult>,
        snapshot: &Snapshot,
    ) -> Result<Vec<SearchResult>, SearchError> {
        if ask.by.is_some_and(|by| by != RankingMethod::CrossEncoder) {
            return Ok(found);
        }
        let best = found.iter().take(RERANKED_RESULTS);
        let texts: Vec<String> = best
            .filter_map(|found| snapshot.asset(found.id).map(describe))
            .collect();
        let (models, query) = (self.shared.models.clone(), ask.text.clone());
        let scored = self.shared.runs.run(move |stop| {
            let encoder: Option<Arc<CrossEncoder>> = models.cross_encoder()?;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            encoder
                .map(|encoder| encoder.score(&query, &texts, stop))
                .transpose()
        });
        let problem = match scored.await {
            Ok(Some(scores)) => {
                for (found, score) in found.iter_mut().zip(&scores) {
                    found.score = f64::from(*score);
                    found.ranked_by = RankingMethod::CrossEncoder;
                }
                let read = scores.len().min(found.len());
                // The sort is stable: results with equal scores keep their order.
                if let Some(read) = found.get_mut(..read) {
                    read.sort_by(|one, other| other.score.total_cmp(&one.score));
                }
                return Ok(found);
            }
            Ok(None) => "not fetched".to_owned(),
            Err(SearchError::Model(error)) => {
                tracing::warn!("cannot re-rank the best results: {error}");
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        match ask.by {
            Some(by) => Err(SearchError::NoModel {
                ranking: by.text(),
                model: "cross-encoder",
                problem,
            }),
            None => Ok(found),
        }
    }

    /// Sets the similarity of each result, including those that were found by words only.
    async fn add_similarities(
        &self,
        ready: &ReadyCollection,
        meaning: Arc<Vec<f32>>,
        hits: &Hits,
        found: &mut [SearchResult],
    ) -> Result<(), SearchError> {
        let mut known: std::collections::HashMap<AssetId, f32> =
            hits.by_embedding.iter().copied().collect();
        let mut others: Vec<AssetId> = found.iter().map(|found| found.id).collect();
        others.retain(|id| !known.contains_key(id));
        others.sort_unstable();
        if !others.is_empty() {
            let lookup = IndexQuery {
                embedding: Some(meaning.to_vec()),
                words: WordVector::default(),
                limit: others.len(),
                granted: Arc::new(VisibleAssets::Only(others)),
            };
            let hits = self.shared.index.search(&ready.collection, lookup).await?;
            known.extend(hits.by_embedding);
        }
        for found in found {
            found.similarity = known.get(&found.id).copied();
        }
        Ok(())
    }
}

/// Returns the ranking of the hits by one method.
fn to_results(hits: &Hits, by: RankingMethod) -> Vec<SearchResult> {
    let alone = |list: &[(AssetId, f32)]| {
        list.iter()
            .map(|(id, score)| (*id, f64::from(*score)))
            .collect()
    };
    let list: Vec<(AssetId, f64)> = match by {
        RankingMethod::Bm25 => alone(&hits.by_words),
        RankingMethod::BiEncoder => alone(&hits.by_embedding),
        RankingMethod::Hybrid | RankingMethod::CrossEncoder => {
            fuse([&hits.by_embedding, &hits.by_words])
        }
    };
    let found = list.into_iter().map(|(id, score)| SearchResult {
        id,
        score,
        similarity: None,
        rank: 0,
        ranked_by: by,
    });
    found.collect()
}
