//! How an answer comes about: the query's words and its meaning are looked up, the two lists fused, and the best of them
//! read again, beside the query, by the cross-encoder. What is not there is done without, and each row says so.

use std::path::Path;
use std::sync::Arc;

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

use super::describe::describe;
use super::error::SearchError;
use super::fusion::fuse;
use super::handover::{Outcome, Request, hand_over, take_requests};
use super::index::{Hits, IndexError, Lookup, Sparse, VectorIndex};
use super::indexing::{IndexProgress, IndexReport, Model, Pass};
use super::models::{BiEncoder, CrossEncoder, ModelError, Models};
use super::stop::{Stop, StopOnDrop};
use super::words;
use crate::catalog::{LiveState, Snapshot, Visible};
use crate::model::AssetId;

/// Results that can be asked for.
pub const MOST_RESULTS: usize = 1_000;
/// Characters of a query at most. Models read some 250 words of it.
pub const LONGEST_QUERY: usize = 10_000;

/// What each list has at least, however few results are asked for: fusion looks further down than that.
const CANDIDATES: usize = 100;
/// What the cross-encoder reads: it takes milliseconds for each.
const READ_AGAIN: usize = 20;
/// Meanings of queries that are remembered.
const REMEMBERED: usize = 1_000;

/// What somebody looks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// In the asker's words.
    pub text: String,
    /// How many results at most.
    pub limit: usize,
    /// What the asker may see.
    pub granted: Arc<Visible>,
    /// How it is to be ranked; none: as well as it can be here.
    pub by: Option<RankedBy>,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The asset.
    pub id: AssetId,
    /// By what it was ranked: the cross-encoder's logit, a sum of reciprocal ranks, a cosine, or BM25. It can be compared
    /// within one answer among those that were ranked by the same.
    pub score: f64,
    /// The cosine between what the query means and what the asset's description does; none without a bi-encoder.
    pub similarity: Option<f32>,
    /// Its place, from 1.
    pub rank: usize,
    /// What gave it its place.
    pub ranked_by: RankedBy,
}

/// What gives results their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankedBy {
    /// A model that reads query and description together.
    CrossEncoder,
    /// The bi-encoder's list and BM25's, fused.
    Hybrid,
    /// A model that compares what query and description mean.
    BiEncoder,
    /// The words that they share.
    Bm25,
}

impl RankedBy {
    /// All, best first.
    pub const ALL: [Self; 4] = [
        Self::CrossEncoder,
        Self::Hybrid,
        Self::BiEncoder,
        Self::Bm25,
    ];

    /// As in SQL and on the command line.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CrossEncoder => "cross-encoder",
            Self::Hybrid => "hybrid",
            Self::BiEncoder => "bi-encoder",
            Self::Bm25 => "bm25",
        }
    }
}

/// What can be searched in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub collection: String,
    /// The model of the meanings in it, if they are whole.
    pub model: Option<String>,
}

/// Runs models: one at a time, for each takes all cores, and off the threads that answer.
#[derive(Debug)]
pub(super) struct ModelRuns {
    turns: Arc<Semaphore>,
    runtime: Handle,
}

impl ModelRuns {
    /// Runs `work` when it is its turn. Dropped, it is asked to stop, and the next one's turn comes when it has.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stop) -> Result<T, ModelError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| SearchError::Ended)?;
        let stop = Stop::default();
        let _guard = StopOnDrop(stop.clone());
        let ran = self.runtime.spawn_blocking(move || {
            let _turn = turn;
            work(&stop)
        });
        Ok(ran.await.map_err(|_| SearchError::Ended)??)
    }
}

/// Whether there is something to search in.
#[derive(Debug, Clone)]
enum State {
    /// Nobody asked yet.
    Unknown,
    /// The last pass failed before there was.
    Failed(String),
    Ready(Ready),
}

/// Finds assets, and keeps the index that it finds them in. Cheap to clone; nothing is opened before it is needed.
#[derive(Debug, Clone)]
pub struct Search {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    models: Models,
    index: Arc<dyn VectorIndex>,
    runs: ModelRuns,
    state: watch::Sender<State>,
    /// One pass at a time.
    passes: Mutex<()>,
    /// Whether answers wait for meanings, too: where nobody else sees to them.
    waits_for_meanings: bool,
    /// Meanings of queries, by model and text.
    remembered: Cache<(String, String), Arc<Vec<f32>>>,
}

impl Search {
    /// Searches with `models` in `index`. With `waits_for_meanings`, the first answer comes when all assets are embedded;
    /// without, when their words are in the index. To be called where a runtime is, which does the work.
    pub fn new(models: Models, index: Arc<dyn VectorIndex>, waits_for_meanings: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                models,
                index,
                runs: ModelRuns {
                    turns: Arc::new(Semaphore::new(1)),
                    runtime: Handle::current(),
                },
                state: watch::Sender::new(State::Unknown),
                passes: Mutex::new(()),
                waits_for_meanings,
                remembered: Cache::new(REMEMBERED),
            }),
        }
    }

    /// Brings the index up to date with a catalog; with `full`, everything is done again.
    pub async fn index(
        &self,
        snapshot: &Snapshot,
        full: bool,
        progress: &(dyn Fn(IndexProgress) + Send + Sync),
    ) -> Result<IndexReport, SearchError> {
        let _one = self.shared.passes.lock().await;
        self.index_alone(snapshot, full, progress).await
    }

    /// The same, if there is nothing to search in once it is this one's turn.
    async fn index_first(&self, snapshot: &Snapshot) -> Result<(), SearchError> {
        let _one = self.shared.passes.lock().await;
        if matches!(*self.shared.state.borrow(), State::Ready(_)) {
            return Ok(());
        }
        self.index_alone(snapshot, false, &|_| {}).await.map(|_| ())
    }

    async fn index_alone(
        &self,
        snapshot: &Snapshot,
        full: bool,
        progress: &(dyn Fn(IndexProgress) + Send + Sync),
    ) -> Result<IndexReport, SearchError> {
        let model = self.model().await;
        let has_model = model.is_some();
        let mut outcome = self.pass(model, snapshot, full, progress).await;
        if let Err(SearchError::Model(error)) = &outcome
            && has_model
        {
            tracing::warn!("assets are found by their words only: {error}");
            outcome = self.pass(None, snapshot, full, progress).await;
        }
        if let Err(error) = &outcome {
            self.shared.state.send_modify(|state| {
                if !matches!(state, State::Ready(_)) {
                    *state = State::Failed(error.to_string());
                }
            });
        }
        outcome
    }

    async fn pass(
        &self,
        model: Option<Model>,
        snapshot: &Snapshot,
        full: bool,
        progress: &(dyn Fn(IndexProgress) + Send + Sync),
    ) -> Result<IndexReport, SearchError> {
        let pass = Pass {
            index: &*self.shared.index,
            runs: &self.shared.runs,
            model,
            snapshot,
            full,
            progress,
            ready: &|ready| {
                self.shared.state.send_replace(State::Ready(ready));
            },
        };
        pass.run().await
    }

    /// The bi-encoder for a pass. One that is damaged is as good as none, but for the log.
    async fn model(&self) -> Option<Model> {
        let models = self.shared.models.clone();
        let looked = self
            .shared
            .runs
            .runtime
            .spawn_blocking(move || models.bi_encoder_identity());
        let identity = match looked.await {
            Ok(Ok(identity)) => identity?,
            Ok(Err(error)) => {
                tracing::warn!("assets are found by their words only: {error}");
                return None;
            }
            Err(_) => return None,
        };
        let models = self.shared.models.clone();
        Some(Model {
            fingerprint: identity.fingerprint,
            dimensions: identity.dimensions,
            load: Arc::new(move || models.bi_encoder()),
        })
    }

    /// Keeps the index up to date with the catalog, for as long as the future is polled: from the start if there is a model,
    /// from the first search on if there is none. With `requests`, the folder of an index in this process, requests of other
    /// processes are taken there.
    pub async fn follow(&self, catalog: watch::Receiver<LiveState>, requests: Option<&Path>) {
        let others = async {
            if let Some(folder) = requests {
                take_requests(self, folder, &catalog).await;
            }
        };
        tokio::join!(self.follow_catalog(catalog.clone()), others);
    }

    async fn follow_catalog(&self, mut catalog: watch::Receiver<LiveState>) {
        use std::time::Duration;
        /// How often models are looked for, and what failed is tried again.
        const AGAIN: Duration = Duration::from_secs(30);
        let mut known: Option<(u64, Option<String>)> = None;
        let mut is_failing = false;
        loop {
            let snapshot = Arc::clone(&catalog.borrow_and_update().snapshot);
            let model = self.model().await.map(|model| model.fingerprint);
            let is_wanted =
                model.is_some() || !matches!(*self.shared.state.borrow(), State::Unknown);
            let now = Some((snapshot.version(), model));
            if is_wanted && known != now {
                match self.index(&snapshot, false, &|_| {}).await {
                    Ok(report) => {
                        known = now;
                        is_failing = false;
                        tracing::info!(
                            assets = report.assets,
                            indexed = report.indexed,
                            removed = report.removed,
                            "the search index is up to date"
                        );
                    }
                    Err(error) if !is_failing => {
                        is_failing = true;
                        tracing::warn!(
                            "the search index cannot be brought up to date, and is tried again: {error}"
                        );
                    }
                    Err(_) => {}
                }
            }
            let changed = tokio::time::timeout(AGAIN, catalog.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
        }
    }

    /// What can be searched in, made first if need be.
    async fn ready(&self, snapshot: &Arc<Snapshot>) -> Result<Ready, SearchError> {
        if let State::Ready(ready) = &*self.shared.state.borrow() {
            return Ok(ready.clone());
        }
        let mut state = self.shared.state.subscribe();
        let (search, snapshot) = (self.clone(), Arc::clone(snapshot));
        // Of its own: whoever asked may go, others have come meanwhile.
        let mut pass = self
            .shared
            .runs
            .runtime
            .spawn(async move { search.index_first(&snapshot).await });
        if self.shared.waits_for_meanings {
            (&mut pass).await.map_err(|_| SearchError::Ended)??;
        } else {
            tokio::select! {
                outcome = &mut pass => outcome.map_err(|_| SearchError::Ended)??,
                _ = state.wait_for(|state| matches!(state, State::Ready(_))) => {}
            }
        }
        match &*self.shared.state.borrow() {
            State::Ready(ready) => Ok(ready.clone()),
            State::Failed(problem) => Err(SearchError::NotReady(problem.clone())),
            State::Unknown => Err(SearchError::Ended),
        }
    }

    /// Whether what is searched in has meanings.
    pub fn has_meanings(&self) -> bool {
        matches!(&*self.shared.state.borrow(), State::Ready(ready) if ready.model.is_some())
    }

    /// Finds what is asked for in the assets of `snapshot`, best first. Dropped, it ends.
    pub async fn search(
        &self,
        ask: &Ask,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<Found>, SearchError> {
        check(ask)?;
        // Whoever polls this may have a runtime that ends before connections to a Qdrant server do.
        let mut found = JoinSet::new();
        let (search, ask, snapshot) = (self.clone(), ask.clone(), Arc::clone(snapshot));
        found.spawn_on(
            async move { search.find(&ask, &snapshot).await },
            &self.shared.runs.runtime,
        );
        match found.join_next().await {
            Some(Ok(found)) => found,
            _ => Err(SearchError::Ended),
        }
    }

    async fn find(&self, ask: &Ask, snapshot: &Arc<Snapshot>) -> Result<Vec<Found>, SearchError> {
        if matches!(&*ask.granted, Visible::Only(ids) if ids.is_empty()) {
            return Ok(Vec::new());
        }
        let ready = match self.ready(snapshot).await {
            // A query on this machine, beside a server.
            Err(SearchError::Index(error @ IndexError::InUse { .. })) => {
                return self.find_beside(ask, snapshot, error).await;
            }
            ready => ready?,
        };
        match self.find_in(&ready, ask, snapshot).await {
            // Another server that shares the index has put another collection in force.
            Err(SearchError::Index(IndexError::Missing { .. })) => {
                self.shared.state.send_replace(State::Unknown);
                let ready = self.ready(snapshot).await?;
                self.find_in(&ready, ask, snapshot).await
            }
            found => found,
        }
    }

    /// Has the process search that has the index, if it takes requests. It searches in all assets.
    async fn find_beside(
        &self,
        ask: &Ask,
        snapshot: &Snapshot,
        in_use: IndexError,
    ) -> Result<Vec<Found>, SearchError> {
        let (IndexError::InUse { folder, .. }, Visible::All) = (&in_use, &*ask.granted) else {
            return Err(in_use.into());
        };
        let request = Request::Search {
            text: ask.text.clone(),
            limit: ask.limit,
            by: ask.by,
        };
        match hand_over(Path::new(folder), &request, &|_| ()).await {
            Some(Ok(Outcome::Found { mut found, .. })) => {
                found.retain(|found| snapshot.asset(found.id).is_some());
                Ok(found)
            }
            Some(Err(failed)) => Err(failed.into()),
            Some(Ok(Outcome::Indexed(_))) | None => Err(in_use.into()),
        }
    }

    async fn find_in(
        &self,
        ready: &Ready,
        ask: &Ask,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<Found>, SearchError> {
        let meaning = self.meaning(ask, ready).await?;
        let looks_at_words = ask.by != Some(RankedBy::BiEncoder);
        let lookup = Lookup {
            meaning: meaning.as_deref().cloned(),
            words: match looks_at_words {
                true => words::of_query(&ask.text),
                false => Sparse::default(),
            },
            granted: Arc::clone(&ask.granted),
            limit: ask.limit.max(CANDIDATES),
        };
        let hits = self.shared.index.look_up(&ready.collection, lookup).await?;
        let ranked_by = match (&meaning, looks_at_words) {
            (None, _) => RankedBy::Bm25,
            (Some(_), true) => RankedBy::Hybrid,
            (Some(_), false) => RankedBy::BiEncoder,
        };
        let mut found = ranked(&hits, ranked_by);
        // The index may be of an older catalog, and is not trusted with who may see what.
        found.retain(|found| ask.granted.contains(found.id) && snapshot.asset(found.id).is_some());
        found = self.read_again(ask, found, snapshot).await?;
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

    /// What the query means, by the model that the index was made with; none if it is not to be had.
    async fn meaning(
        &self,
        ask: &Ask,
        ready: &Ready,
    ) -> Result<Option<Arc<Vec<f32>>>, SearchError> {
        let is_needed = matches!(ask.by, Some(RankedBy::BiEncoder | RankedBy::Hybrid));
        let lacking = |problem: &str| match (ask.by, is_needed) {
            (Some(by), true) => Err(SearchError::NoModel {
                ranking: by.text(),
                model: "bi-encoder",
                problem: problem.to_owned(),
            }),
            _ => Ok(None),
        };
        if ask.by == Some(RankedBy::Bm25) {
            return Ok(None);
        }
        let Some(model) = &ready.model else {
            return lacking("the index has no meanings, or not all of them yet");
        };
        let key = (model.clone(), ask.text.clone());
        if let Some(meaning) = self.shared.remembered.get(&key) {
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
                self.shared.remembered.insert(key, Arc::clone(&meaning));
                Ok(Some(meaning))
            }
            Ok(None) => lacking("the index was made with another"),
            Err(SearchError::Model(error)) => {
                tracing::warn!("assets are found by their words only: {error}");
                lacking(&error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// Puts the best in the order that the cross-encoder gives them, if there is one.
    async fn read_again(
        &self,
        ask: &Ask,
        mut found: Vec<Found>,
        snapshot: &Snapshot,
    ) -> Result<Vec<Found>, SearchError> {
        if ask.by.is_some_and(|by| by != RankedBy::CrossEncoder) {
            return Ok(found);
        }
        let best = found.iter().take(READ_AGAIN);
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
                    found.ranked_by = RankedBy::CrossEncoder;
                }
                let read = scores.len().min(found.len());
                // Stable: equal ones stay in the order that they had.
                if let Some(read) = found.get_mut(..read) {
                    read.sort_by(|one, other| other.score.total_cmp(&one.score));
                }
                return Ok(found);
            }
            Ok(None) => "it was not fetched".to_owned(),
            Err(SearchError::Model(error)) => {
                tracing::warn!("the best results are not read again: {error}");
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

    /// Says of each result how similar its meaning is, of those too that were found by their words.
    async fn add_similarities(
        &self,
        ready: &Ready,
        meaning: Arc<Vec<f32>>,
        hits: &Hits,
        found: &mut [Found],
    ) -> Result<(), SearchError> {
        let mut known: std::collections::HashMap<AssetId, f32> =
            hits.by_meaning.iter().copied().collect();
        let mut others: Vec<AssetId> = found.iter().map(|found| found.id).collect();
        others.retain(|id| !known.contains_key(id));
        others.sort_unstable();
        if !others.is_empty() {
            let lookup = Lookup {
                meaning: Some(meaning.to_vec()),
                words: Sparse::default(),
                limit: others.len(),
                granted: Arc::new(Visible::Only(others)),
            };
            let hits = self.shared.index.look_up(&ready.collection, lookup).await?;
            known.extend(hits.by_meaning);
        }
        for found in found {
            found.similarity = known.get(&found.id).copied();
        }
        Ok(())
    }
}

fn check(ask: &Ask) -> Result<(), SearchError> {
    if !(1..=MOST_RESULTS).contains(&ask.limit) {
        let asked = ask.limit;
        let problem = format!("1 to {MOST_RESULTS} results can be asked for, not {asked}");
        return Err(SearchError::Input(problem));
    }
    check_text(&ask.text)
}

/// Whether a text can be looked for.
pub fn check_text(text: &str) -> Result<(), SearchError> {
    let problem = if text.trim().is_empty() {
        "the text to search for is empty".to_owned()
    } else if text.chars().count() > LONGEST_QUERY {
        format!("the text to search for is longer than {LONGEST_QUERY} characters")
    } else {
        return Ok(());
    };
    Err(SearchError::Input(problem))
}

/// One list of the hits.
fn ranked(hits: &Hits, by: RankedBy) -> Vec<Found> {
    let alone = |list: &[(AssetId, f32)]| {
        list.iter()
            .map(|(id, score)| (*id, f64::from(*score)))
            .collect()
    };
    let list: Vec<(AssetId, f64)> = match by {
        RankedBy::Bm25 => alone(&hits.by_words),
        RankedBy::BiEncoder => alone(&hits.by_meaning),
        RankedBy::Hybrid | RankedBy::CrossEncoder => fuse([&hits.by_meaning, &hits.by_words]),
    };
    let found = list.into_iter().map(|(id, score)| Found {
        id,
        score,
        similarity: None,
        rank: 0,
        ranked_by: by,
    });
    found.collect()
}
