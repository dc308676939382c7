//! A collection of the embedded index: a shard and its caches in memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use qdrant_edge::Filter;

use super::home::{self, Home, Lock};
use super::shard::{self, Problem, Shard};
use crate::catalog::Visible;
use crate::model::AssetId;
use crate::search::index::frequencies::{Frequencies, Granted};
use crate::search::index::ranking::{Bounds, Ranking, five_digits};
use crate::search::index::recent::Recent;
use crate::search::index::{Hits, IndexError, Lookup, Point, Sparse, Stored};

/// The minimum number of candidates (`ef`) of a search in the HNSW graph. A larger one is more exact and slower.
const BEAM: usize = 128;
/// By embedding: listed assets are compared one by one, and the duration of a search in the graph grows with the
/// number of requested results.
const BY_MEANING: Bounds = Bounds {
    named: 6_000,
    count: 2_000,
};
/// By words: the scores of all matching points are computed, however many results are requested.
const BY_WORDS: Bounds = Bounds {
    named: 2_000,
    count: 20_000,
};

/// A collection. Its methods block.
#[derive(Debug)]
pub(super) struct Collection {
    shard: Option<Shard>,
    path: PathBuf,
    /// The index's folder, for messages.
    folder: PathBuf,
    /// Held during every change of the shard.
    changing: Mutex<()>,
    /// Held while points change. An optimisation changes no points.
    points: Mutex<()>,
    /// Counted at the first use.
    frequencies: RwLock<Option<Frequencies>>,
    granted: Recent<Arc<Granted>>,
    named: Recent<Arc<Filter>>,
    /// Whether the collection's folder is removed on drop.
    is_dropped: AtomicBool,
    /// Keeps other processes out until the last collection is dropped.
    _lock: Arc<Lock>,
    /// The last field, so that it is dropped after the shard is closed.
    presence: Arc<()>,
}

/// An error while opening a collection.
pub(super) enum OpenError {
    /// The files are damaged.
    Damaged(Problem),
    /// The failure may be temporary.
    Failed(IndexError),
}

impl OpenError {
    fn of(folder: &Path, problem: Problem) -> Self {
        match shard::may_pass(&problem) {
            true => Self::Failed(home::failed(folder, problem)),
            false => Self::Damaged(problem),
        }
    }
}

impl Collection {
    /// Opens an existing collection, or creates one with these dimensions.
    pub fn open(
        home: &Home,
        folder: &Path,
        name: &str,
        dimensions: Option<Option<usize>>,
    ) -> Result<Self, OpenError> {
        let path = home.path(name).map_err(OpenError::Failed)?;
        home::room(folder, home::LITTLE_ROOM).map_err(OpenError::Failed)?;
        let opened = Shard::open(&path, dimensions);
        let shard = opened.map_err(|problem| OpenError::of(folder, problem))?;
        Ok(Self {
            shard: Some(shard),
            path,
            folder: folder.to_owned(),
            changing: Mutex::default(),
            points: Mutex::default(),
            frequencies: RwLock::default(),
            granted: Recent::default(),
            named: Recent::default(),
            is_dropped: AtomicBool::default(),
            _lock: home.lock(),
            presence: Arc::default(),
        })
    }

    /// Returns a reference that is alive until the shard is closed. (A weak reference to the collection itself would
    /// expire earlier.)
    pub fn presence(&self) -> Weak<()> {
        Arc::downgrade(&self.presence)
    }

    /// Requests the removal of the folder when the collection is dropped.
    pub fn drop_folder(&self) {
        self.is_dropped.store(true, Ordering::Relaxed);
    }

    fn with<T>(&self, call: impl FnOnce(&Shard) -> Result<T, Problem>) -> Result<T, IndexError> {
        let closed = || Err("the collection is closed".to_owned());
        self.shard
            .as_ref()
            .map_or_else(closed, call)
            .map_err(|problem| self.failed(&problem))
    }

    fn failed(&self, problem: &str) -> IndexError {
        let cure = match shard::may_pass(problem) {
            true => "",
            false => "; if this persists, delete this folder and run `plantlake index --full`",
        };
        home::failed(&self.folder, format!("{problem}{cure}"))
    }

    /// Counts the frequencies, so that the first query need not wait for it.
    pub fn prepare(&self) -> Result<(), OpenError> {
        let counted = self.frequencies().map(drop);
        counted.map_err(|problem| OpenError::of(&self.folder, problem))
    }

    /// Returns all points.
    pub fn stored(&self) -> Result<Vec<Stored>, IndexError> {
        self.with(Shard::stored)
    }

    /// Inserts or replaces points.
    pub fn put(&self, points: Vec<Point>) -> Result<(), IndexError> {
        home::room(&self.folder, home::LEAST_ROOM)?;
        let words: Vec<(AssetId, Vec<u32>)> = points
            .iter()
            .map(|point| (point.id, point.words.dimensions.clone()))
            .collect();
        let _changing = lock(&self.changing);
        let _points = lock(&self.points);
        self.with(|shard| shard.put(points))?;
        self.recount(|frequencies| {
            for (id, words) in &words {
                frequencies.put(*id, words);
            }
        });
        Ok(())
    }

    /// Removes points.
    pub fn remove(&self, ids: &[AssetId]) -> Result<(), IndexError> {
        home::room(&self.folder, home::LITTLE_ROOM)?;
        let _changing = lock(&self.changing);
        let _points = lock(&self.points);
        self.with(|shard| shard.remove(ids))?;
        self.recount(|frequencies| {
            for id in ids {
                frequencies.remove(*id);
            }
        });
        Ok(())
    }

    /// Optimises the collection for queries. Queries can run meanwhile.
    pub fn settle(&self) -> Result<(), IndexError> {
        home::room(&self.folder, home::LEAST_ROOM)?;
        let _changing = lock(&self.changing);
        self.with(Shard::optimise)
    }

    fn recount(&self, change: impl FnOnce(&mut Frequencies)) {
        let mut frequencies = self
            .frequencies
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(frequencies) = &mut *frequencies {
            change(frequencies);
        }
    }

    /// Returns the frequencies, which are counted at the first call.
    fn frequencies(&self) -> Result<RwLockReadGuard<'_, Option<Frequencies>>, Problem> {
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
        let _points = lock(&self.points);
        if read().is_none() {
            let mut frequencies = Frequencies::default();
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
    pub fn look_up(&self, lookup: &Lookup) -> Result<Hits, IndexError> {
        let is_none_granted = matches!(&*lookup.granted, Visible::Only(ids) if ids.is_empty());
        if is_none_granted || lookup.limit == 0 {
            return Ok(Hits::default());
        }
        let by_meaning = match &lookup.meaning {
            Some(meaning) if self.with(|shard| Ok(shard.has_meanings()))? => {
                self.by_meaning(meaning, lookup)?
            }
            _ => Vec::new(),
        };
        let by_words = match lookup.words.dimensions.is_empty() {
            true => Vec::new(),
            false => self.by_words(lookup)?,
        };
        Ok(Hits {
            by_meaning,
            by_words,
        })
    }

    fn by_meaning(
        &self,
        meaning: &[f32],
        lookup: &Lookup,
    ) -> Result<Vec<(AssetId, f32)>, IndexError> {
        self.rank(lookup, BY_MEANING, |shard, filter, count| {
            shard.nearest(meaning, filter, count, count.max(BEAM))
        })
    }

    fn by_words(&self, lookup: &Lookup) -> Result<Vec<(AssetId, f32)>, IndexError> {
        let words = self.weigh(&lookup.words, &lookup.granted)?;
        self.rank(lookup, BY_WORDS, |shard, filter, count| {
            let mut found = shard.best(words.clone(), filter, count)?;
            for (_, score) in &mut found {
                *score = five_digits(*score);
            }
            Ok(found)
        })
    }

    fn weigh(&self, words: &Sparse, granted: &Arc<Visible>) -> Result<Sparse, IndexError> {
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
        Ok(frequencies.weigh(words, &granted))
    }

    /// Sends requests until the ranking is complete.
    fn rank(
        &self,
        lookup: &Lookup,
        bounds: Bounds,
        ask: impl Fn(&Shard, Option<Filter>, usize) -> Result<Vec<(AssetId, f32)>, Problem>,
    ) -> Result<Vec<(AssetId, f32)>, IndexError> {
        let points = match &*lookup.granted {
            Visible::Only(ids) if ids.len() > bounds.named => self.with(Shard::count)?,
            _ => 0,
        };
        let mut ranking = Ranking::new(&lookup.granted, lookup.limit, points, bounds);
        loop {
            let asked = ranking.asked();
            let filter = match asked.named {
                true => Some(self.filter(&lookup.granted)),
                false => None,
            };
            let filter = filter.as_deref().cloned();
            let answer = self.with(|shard| ask(shard, filter, asked.count))?;
            if ranking.take(answer) {
                return Ok(ranking.best());
            }
        }
    }

    fn filter(&self, granted: &Arc<Visible>) -> Arc<Filter> {
        self.named.get(
            granted,
            |_| true,
            |granted| {
                Arc::new(match granted {
                    Visible::All => Filter::default(),
                    Visible::Only(ids) => shard::named(ids),
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
        if self.is_dropped.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            // The collection is unused by now; the next process that locks the folder tries again.
            tracing::warn!(folder = %self.path.display(), %error, "cannot remove a former search index");
        }
    }
}
