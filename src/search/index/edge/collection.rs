//! A collection of the embedded index: a shard and its caches in memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use qdrant_edge::Filter;

use super::index_folder::{self, IndexFolder, Lock};
use super::shard::{self, Problem, Shard};
use crate::catalog::VisibleAssets;
use crate::model::AssetId;
use crate::search::index::error::IndexError;
use crate::search::index::frequencies::{DocumentFrequencies, GrantedSlots};
use crate::search::index::granted_set_cache::GrantedSetCache;
use crate::search::index::ranking::{Ranking, RequestLimits, round_to_five_digits};
use crate::search::index::vector_index::{Hits, IndexQuery, Point, StoredPoint, WordVector};

/// The minimum number of candidates (`ef`) of a search in the HNSW graph. A larger one is more exact and slower.
const MIN_EF: usize = 128;
/// By embedding: listed assets are compared one by one, and the duration of a search in the graph grows with the
/// number of requested results.
const EMBEDDING_LIMITS: RequestLimits = RequestLimits {
    max_listed: 6_000,
    max_results: 2_000,
};
/// By words: the scores of all matching points are computed, however many results are requested.
const WORD_LIMITS: RequestLimits = RequestLimits {
    max_listed: 2_000,
    max_results: 20_000,
};

/// A collection. Its methods block.
#[derive(Debug)]
pub(super) struct Collection {
    shard: Option<Shard>,
    path: PathBuf,
    /// The index's folder, for messages.
    folder: PathBuf,
    /// Held during every change of the shard.
    change_lock: Mutex<()>,
    /// Held while points change. An optimisation changes no points.
    point_lock: Mutex<()>,
    /// Counted at the first use.
    frequencies: RwLock<Option<DocumentFrequencies>>,
    granted: GrantedSetCache<Arc<GrantedSlots>>,
    filters: GrantedSetCache<Arc<Filter>>,
    /// Whether the collection's folder is removed on drop.
    removes_folder: AtomicBool,
    /// Keeps other processes out until the last collection is dropped.
    _lock: Arc<Lock>,
    /// The last field, so that it is dropped after the shard is closed.
    open_marker: Arc<()>,
}

/// An error while opening a collection.
pub(super) enum OpenError {
    /// The files are damaged.
    Damaged(Problem),
    /// The failure may be temporary.
    Failed(IndexError),
}

impl OpenError {
    fn from_problem(folder: &Path, problem: Problem) -> Self {
        match shard::is_temporary(&problem) {
            true => Self::Failed(index_folder::failed(folder, problem)),
            false => Self::Damaged(problem),
        }
    }
}

impl Collection {
    /// Opens an existing collection, or creates one with these dimensions.
    pub fn open(
        home: &IndexFolder,
        folder: &Path,
        name: &str,
        dimensions: Option<Option<usize>>,
    ) -> Result<Self, OpenError> {
        let path = home.path(name).map_err(OpenError::Failed)?;
        index_folder::check_free_space(folder, index_folder::MIN_FREE_BYTES_TO_OPEN)
            .map_err(OpenError::Failed)?;
        let opened = Shard::open(&path, dimensions);
        let shard = opened.map_err(|problem| OpenError::from_problem(folder, problem))?;
        Ok(Self {
            shard: Some(shard),
            path,
            folder: folder.to_owned(),
            change_lock: Mutex::default(),
            point_lock: Mutex::default(),
            frequencies: RwLock::default(),
            granted: GrantedSetCache::default(),
            filters: GrantedSetCache::default(),
            removes_folder: AtomicBool::default(),
            _lock: home.lock(),
            open_marker: Arc::default(),
        })
    }

    /// Returns a reference that is alive until the shard is closed. (A weak reference to the collection itself would
    /// expire earlier.)
    pub fn open_marker(&self) -> Weak<()> {
        Arc::downgrade(&self.open_marker)
    }

    /// Requests the removal of the folder when the collection is dropped.
    pub fn remove_folder_on_drop(&self) {
        self.removes_folder.store(true, Ordering::Relaxed);
    }

    fn with<T>(&self, call: impl FnOnce(&Shard) -> Result<T, Problem>) -> Result<T, IndexError> {
        let closed = || Err("the collection is closed".to_owned());
        self.shard
            .as_ref()
            .map_or_else(closed, call)
            .map_err(|problem| self.failed(&problem))
    }

    fn failed(&self, problem: &str) -> IndexError {
        let cure = match shard::is_temporary(problem) {
            true => "",
            false => "; if this persists, delete this folder and run `plantlake index --full`",
        };
        index_folder::failed(&self.folder, format!("{problem}{cure}"))
    }

    /// Counts the frequencies, so that the first query need not wait for it.
    pub fn count_frequencies(&self) -> Result<(), OpenError> {
        let counted = self.frequencies().map(drop);
        counted.map_err(|problem| OpenError::from_problem(&self.folder, problem))
    }

    /// Returns all points.
    pub fn stored_points(&self) -> Result<Vec<StoredPoint>, IndexError> {
        self.with(Shard::stored_points)
    }

    /// Inserts or replaces points.
    pub fn put(&self, points: Vec<Point>) -> Result<(), IndexError> {
        index_folder::check_free_space(&self.folder, index_folder::MIN_FREE_BYTES)?;
        let words: Vec<(AssetId, Vec<u32>)> = points
            .iter()
            .map(|point| (point.id, point.words.dimensions.clone()))
            .collect();
        let _changing = lock(&self.change_lock);
        let _points = lock(&self.point_lock);
        self.with(|shard| shard.put(points))?;
        self.update_frequencies(|frequencies| {
            for (id, words) in &words {
                frequencies.put(*id, words);
            }
        });
        Ok(())
    }

    /// Removes points.
    pub fn remove(&self, ids: &[AssetId]) -> Result<(), IndexError> {
        index_folder::check_free_space(&self.folder, index_folder::MIN_FREE_BYTES_TO_OPEN)?;
        let _changing = lock(&self.change_lock);
        let _points = lock(&self.point_lock);
        self.with(|shard| shard.remove(ids))?;
        self.update_frequencies(|frequencies| {
            for id in ids {
                frequencies.remove(*id);
            }
        });
        Ok(())
    }

    /// Optimises the collection for queries. Queries can run meanwhile.
    pub fn optimise(&self) -> Result<(), IndexError> {
        index_folder::check_free_space(&self.folder, index_folder::MIN_FREE_BYTES)?;
        let _changing = lock(&self.change_lock);
        self.with(Shard::optimise)
    }

    fn update_frequencies(&self, change: impl FnOnce(&mut DocumentFrequencies)) {
        let mut frequencies = self
            .frequencies
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(frequencies) = &mut *frequencies {
            change(frequencies);
        }
    }

    /// Returns the frequencies, which are counted at the first call.
    fn frequencies(&self) -> Result<RwLockReadGuard<'_, Option<DocumentFrequencies>>, Problem> {
        let read = || {
            self.frequencies
                .read()
                .unwrap_or_else(PoisonError::into_inner)
        };
        {
            let counted = read();
            if counted.is_some() {
                return Ok(counted);
            }
        }
        let _points = lock(&self.point_lock);
        if read().is_none() {
            let mut frequencies = DocumentFrequencies::default();
            let shard = self.shard.as_ref().ok_or("the collection is closed")?;
            shard.words(|id, words| frequencies.put(id, words))?;
            *self
                .frequencies
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Some(frequencies);
        }
        Ok(read())
    }

    /// Runs a query.
    pub fn search(&self, lookup: &IndexQuery) -> Result<Hits, IndexError> {
        let is_none_granted =
            matches!(&*lookup.granted, VisibleAssets::Only(ids) if ids.is_empty());
        if is_none_granted || lookup.limit == 0 {
            return Ok(Hits::default());
        }
        let by_meaning = match &lookup.embedding {
            Some(meaning) if self.with(|shard| Ok(shard.has_embeddings()))? => {
                self.search_by_embedding(meaning, lookup)?
            }
            _ => Vec::new(),
        };
        let by_words = match lookup.words.dimensions.is_empty() {
            true => Vec::new(),
            false => self.search_by_words(lookup)?,
        };
        Ok(Hits {
            by_embedding: by_meaning,
            by_words,
        })
    }

    fn search_by_embedding(
        &self,
        meaning: &[f32],
        lookup: &IndexQuery,
    ) -> Result<Vec<(AssetId, f32)>, IndexError> {
        self.rank(lookup, EMBEDDING_LIMITS, |shard, filter, count| {
            shard.nearest_by_embedding(meaning, filter, count, count.max(MIN_EF))
        })
    }

    fn search_by_words(&self, lookup: &IndexQuery) -> Result<Vec<(AssetId, f32)>, IndexError> {
        let words = self.weigh_words(&lookup.words, &lookup.granted)?;
        self.rank(lookup, WORD_LIMITS, |shard, filter, count| {
            let mut found = shard.best_by_words(words.clone(), filter, count)?;
            for (_, score) in &mut found {
                *score = round_to_five_digits(*score);
            }
            Ok(found)
        })
    }

    fn weigh_words(
        &self,
        words: &WordVector,
        granted: &Arc<VisibleAssets>,
    ) -> Result<WordVector, IndexError> {
        let frequencies = self
            .frequencies()
            .map_err(|problem| self.failed(&problem))?;
        let Some(frequencies) = &*frequencies else {
            return Ok(words.clone());
        };
        let granted = self.granted.get(
            granted,
            |known| frequencies.is_current(known),
            |granted| Arc::new(frequencies.granted(granted)),
        );
        Ok(frequencies.apply_idf(words, &granted))
    }

    /// Sends requests until the ranking is complete.
    fn rank(
        &self,
        lookup: &IndexQuery,
        bounds: RequestLimits,
        ask: impl Fn(&Shard, Option<Filter>, usize) -> Result<Vec<(AssetId, f32)>, Problem>,
    ) -> Result<Vec<(AssetId, f32)>, IndexError> {
        let points = match &*lookup.granted {
            VisibleAssets::Only(ids) if ids.len() > bounds.max_listed => self.with(Shard::count)?,
            _ => 0,
        };
        let mut ranking = Ranking::new(&lookup.granted, lookup.limit, points, bounds);
        loop {
            let asked = ranking.next_request();
            let filter = match asked.is_filtered {
                true => Some(self.filter(&lookup.granted)),
                false => None,
            };
            let filter = filter.as_deref().cloned();
            let answer = self.with(|shard| ask(shard, filter, asked.count))?;
            if ranking.accept(answer) {
                return Ok(ranking.into_results());
            }
        }
    }

    fn filter(&self, granted: &Arc<VisibleAssets>) -> Arc<Filter> {
        self.filters.get(
            granted,
            |_| true,
            |granted| {
                Arc::new(match granted {
                    VisibleAssets::All => Filter::default(),
                    VisibleAssets::Only(ids) => shard::id_filter(ids),
                })
            },
        )
    }
}

fn lock(mutex: &Mutex<()>) -> std::sync::MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Collection {
    fn drop(&mut self) {
        drop(self.shard.take());
        if self.removes_folder.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            // The collection is unused by now; the next process that locks the folder tries again.
            tracing::warn!(folder = %self.path.display(), %error, "cannot remove a former search index");
        }
    }
}
