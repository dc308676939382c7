//! Qdrant's shard: how it is set up, opened and asked, with all that it takes for granted about its caller.
//!
//! It is of version 0.7, the last one that our compiler takes. What it does not do itself:
//!
//! - Its log of changes is not read when it is opened: what was not flushed is gone, and may be there by half. So the ids
//!   that are about to change are written down before (`changing`), and removed when it is opened with that list there.
//! - The log is not cut off either. What is in closed files of it nobody needs; but the last one must stay, because
//!   changes are numbered by it, and a lower number than before would be ignored.
//! - A flush that fails panics, and closing it flushes. So nothing of it is called without catching that.
//! - A point that replaces another one in a segment that was optimised inherits the vectors which it does not have itself.

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use qdrant_edge::{
    Condition, CountRequest, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard,
    EdgeSparseVectorParams, EdgeVectorParams, Filter, HasIdCondition, HnswIndexConfig, NamedQuery,
    NamedVectors, OperationError, PointId, PointInsertOperations, PointOperations, PointStruct,
    PointStructPersisted, QueryEnum, QueryRequest, Record, ScoringQuery, ScrollRequest,
    SearchParams, SparseVector, UpdateOperation, Vector, VectorInternal, VectorStructInternal,
    WalOptions, WithPayloadInterface, WithVector,
};
use uuid::Uuid;

use super::home;
use crate::model::AssetId;
use crate::search::index::{Point, Sparse, Stored};

/// The vector of an asset's meaning.
const MEANING: &str = "meaning";
/// The vector of its words.
const WORDS: &str = "words";
/// What its point was made from.
const HASH: &str = "hash";
/// Whether it has a meaning; so that it can be told without reading vectors.
const HAS_MEANING: &str = "has_meaning";

/// The ids that are being changed.
const CHANGING: &str = "changing";

/// Points a change: one record of its log each.
const POINTS_PER_CHANGE: usize = 256;
/// Points a page.
const POINTS_PER_PAGE: usize = 2_000;

/// A shard.
#[derive(Debug)]
pub(super) struct Shard {
    /// Always there; taken when it is closed.
    shard: Option<EdgeShard>,
    path: PathBuf,
}

/// Meanings have 4 bytes a dimension. Up to 13,000 of 384 dimensions are compared one by one, which is exact and takes 2 ms.
const COMPARED_ONE_BY_ONE_KB: usize = 20_000;

fn config(dimensions: Option<usize>) -> EdgeConfig {
    let words = EdgeSparseVectorParams::builder().build();
    let mut config = EdgeConfig::builder()
        .sparse_vector(WORDS, words)
        .hnsw_config(HnswIndexConfig {
            full_scan_threshold: COMPARED_ONE_BY_ONE_KB,
            max_indexing_threads: indexing_threads(),
            ..HnswIndexConfig::default()
        })
        .optimizers(EdgeOptimizersConfig {
            // One that is indexed, and one that takes what is new: each is asked in turn.
            default_segment_number: Some(1),
            max_segment_size: Some(4 << 20),
            ..EdgeOptimizersConfig::default()
        })
        .wal_options(WalOptions {
            segment_capacity: 8 << 20,
            ..WalOptions::default()
        });
    if let Some(dimensions) = dimensions {
        let meaning = EdgeVectorParams::builder(dimensions, Distance::Cosine).build();
        config = config.vector(MEANING, meaning);
    }
    config.build()
}

/// Half of the cores: a server goes on answering while it optimises.
fn indexing_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores / 2).max(1)
}

/// What went wrong inside.
pub(super) type Problem = String;

/// Calls into Qdrant, which may panic.
fn guarded<T>(call: impl FnOnce() -> Result<T, OperationError>) -> Result<T, Problem> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(said(&*panic)),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(said), _) => said.clone(),
        (None, Some(said)) => (*said).to_owned(),
        (None, None) => "it ended for an unknown reason".to_owned(),
    }
}

fn point_id(id: AssetId) -> PointId {
    PointId::Uuid(Uuid::from_bytes(*id.as_bytes()))
}

fn asset_id(id: PointId) -> Option<AssetId> {
    match id {
        PointId::Uuid(uuid) => Some(AssetId::from(uuid)),
        PointId::NumId(_) => None,
    }
}

/// The filter that names assets.
pub(super) fn named(ids: &[AssetId]) -> Filter {
    let ids: HasIdCondition = ids.iter().map(|id| point_id(*id)).collect();
    Filter::new_must(Condition::HasId(ids))
}

impl Shard {
    /// Opens a shard; makes it, if its folder is empty and `dimensions` are given: none for one without meanings.
    pub fn open(path: &Path, dimensions: Option<Option<usize>>) -> Result<Self, Problem> {
        clear(path).map_err(|error| error.to_string())?;
        let shard = guarded(|| EdgeShard::load(path, dimensions.map(config)))?;
        let shard = Self {
            shard: Some(shard),
            path: path.to_owned(),
        };
        shard.undo()?;
        Ok(shard)
    }

    fn shard(&self) -> Result<&EdgeShard, Problem> {
        self.shard.as_ref().ok_or_else(|| "it is closed".to_owned())
    }

    /// Removes what was changed by half.
    fn undo(&self) -> Result<(), Problem> {
        let list = match fs::read_to_string(self.path.join(CHANGING)) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let ids = list.lines().filter_map(|line| AssetId::parse(line).ok());
        self.delete(&ids.collect::<Vec<_>>())?;
        self.flush()?;
        self.is_done()
    }

    fn begin(&self, ids: &[AssetId]) -> Result<(), Problem> {
        let list: Vec<String> = ids.iter().map(AssetId::to_string).collect();
        home::write(&self.path, CHANGING, &list.join("\n")).map_err(|error| error.to_string())
    }

    fn is_done(&self) -> Result<(), Problem> {
        let done = fs::remove_file(self.path.join(CHANGING)).and_then(|()| home::sync(&self.path));
        done.map_err(|error| error.to_string())
    }

    fn update(&self, operation: PointOperations) -> Result<(), Problem> {
        let shard = self.shard()?;
        guarded(|| shard.update(UpdateOperation::PointOperation(operation)))
    }

    fn delete(&self, ids: &[AssetId]) -> Result<(), Problem> {
        for ids in ids.chunks(POINTS_PER_PAGE) {
            let ids = ids.iter().map(|id| point_id(*id)).collect();
            self.update(PointOperations::DeletePoints { ids })?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Problem> {
        let shard = self.shard()?;
        guarded(|| {
            shard.flush();
            Ok(())
        })
    }

    /// Puts points, which are there to stay afterwards. Nothing else may change the shard meanwhile.
    pub fn put(&self, points: Vec<Point>) -> Result<(), Problem> {
        let ids: Vec<AssetId> = points.iter().map(|point| point.id).collect();
        self.begin(&ids)?;
        let lacks = |point: &&Point| point.meaning.is_none() || point.words.dimensions.is_empty();
        let lacking: Vec<AssetId> = points.iter().filter(lacks).map(|point| point.id).collect();
        self.delete(&lacking)?;
        let mut points = points.into_iter().map(persisted).peekable();
        while points.peek().is_some() {
            let some: Result<Vec<PointStructPersisted>, Problem> =
                points.by_ref().take(POINTS_PER_CHANGE).collect();
            let some = PointInsertOperations::PointsList(some?);
            self.update(PointOperations::UpsertPoints(some))?;
        }
        self.flush()?;
        self.is_done()
    }

    /// Removes points for good.
    pub fn remove(&self, ids: &[AssetId]) -> Result<(), Problem> {
        self.begin(ids)?;
        self.delete(ids)?;
        self.flush()?;
        self.is_done()
    }

    /// Builds the graph of meanings, and closes the gaps that changes have left.
    pub fn optimise(&self) -> Result<(), Problem> {
        let shard = self.shard()?;
        guarded(|| shard.optimize())?;
        self.flush()
    }

    /// How many points there are.
    pub fn count(&self) -> Result<usize, Problem> {
        let shard = self.shard()?;
        guarded(|| {
            shard.count(CountRequest {
                filter: None,
                exact: false,
            })
        })
    }

    /// Whether there is room for meanings.
    pub fn has_meanings(&self) -> bool {
        let shard = self.shard.as_ref();
        shard.is_some_and(|shard| shard.config().vectors.contains_key(MEANING))
    }

    /// All that is known of the points.
    pub fn stored(&self) -> Result<Vec<Stored>, Problem> {
        let mut stored = Vec::new();
        self.each_page(true, WithVector::Bool(false), |record| {
            let Some(id) = asset_id(record.id) else {
                return;
            };
            let payload = record.payload.as_ref().map(|payload| &payload.0);
            let text = |name: &str| payload.and_then(|payload| payload.get(name));
            let hash = text(HASH).and_then(|hash| u64::from_str_radix(hash.as_str()?, 16).ok());
            let has_meaning =
                text(HAS_MEANING).and_then(qdrant_edge::external::serde_json::Value::as_bool);
            stored.push(Stored {
                id,
                // Whatever has no hash must be made again: it is as good as not there, and is replaced or removed.
                hash: hash.unwrap_or_default(),
                has_meaning: has_meaning.unwrap_or_default(),
            });
        })?;
        Ok(stored)
    }

    /// Each point's words.
    pub fn words(&self, mut take: impl FnMut(AssetId, &[u32])) -> Result<(), Problem> {
        let only_words = WithVector::Selector(vec![WORDS.into()]);
        self.each_page(false, only_words, |record| {
            if let (Some(id), Some(VectorStructInternal::Named(vectors))) =
                (asset_id(record.id), &record.vector)
                && let Some(VectorInternal::Sparse(words)) = vectors.get(WORDS)
            {
                take(id, &words.indices);
            }
        })
    }

    fn each_page(
        &self,
        with_payload: bool,
        with_vector: WithVector,
        mut take: impl FnMut(&Record),
    ) -> Result<(), Problem> {
        let shard = self.shard()?;
        let mut offset = None;
        loop {
            let request = ScrollRequest {
                offset,
                limit: Some(POINTS_PER_PAGE),
                with_payload: Some(WithPayloadInterface::Bool(with_payload)),
                with_vector: with_vector.clone(),
                ..ScrollRequest::default()
            };
            let (records, next) = guarded(|| shard.scroll(request))?;
            records.iter().for_each(&mut take);
            if next.is_none() {
                return Ok(());
            }
            offset = next;
        }
    }

    /// The nearest by meaning.
    pub fn nearest(
        &self,
        meaning: &[f32],
        filter: Option<Filter>,
        count: usize,
        beam: usize,
    ) -> Result<Vec<(AssetId, f32)>, Problem> {
        let params = SearchParams {
            hnsw_ef: Some(beam),
            ..SearchParams::default()
        };
        let query = VectorInternal::Dense(meaning.to_vec());
        self.query(MEANING, query, filter, count, Some(params))
    }

    /// The best by words that are weighed already.
    pub fn best(
        &self,
        words: Sparse,
        filter: Option<Filter>,
        count: usize,
    ) -> Result<Vec<(AssetId, f32)>, Problem> {
        let query = VectorInternal::Sparse(SparseVector {
            indices: words.dimensions,
            values: words.weights,
        });
        self.query(WORDS, query, filter, count, None)
    }

    fn query(
        &self,
        vector: &str,
        query: VectorInternal,
        filter: Option<Filter>,
        count: usize,
        params: Option<SearchParams>,
    ) -> Result<Vec<(AssetId, f32)>, Problem> {
        let shard = self.shard()?;
        let query = NamedQuery {
            query,
            using: Some(vector.into()),
        };
        let request = QueryRequest {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(query))),
            filter,
            score_threshold: None,
            limit: count,
            offset: 0,
            params,
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        };
        let found = guarded(|| shard.query(request))?;
        let scored = |point: &qdrant_edge::ScoredPoint| Some((asset_id(point.id)?, point.score));
        Ok(found.iter().filter_map(scored).collect())
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let shard = self.shard.take();
        // It flushes, and what was to stay was flushed already.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(shard)));
    }
}

fn persisted(point: Point) -> Result<PointStructPersisted, Problem> {
    let has_meaning = point.meaning.is_some();
    let mut vectors = NamedVectors::default();
    if let Some(meaning) = point.meaning {
        vectors = vectors.add_vector(MEANING, meaning);
    }
    if !point.words.dimensions.is_empty() {
        let words = Vector::new_sparse(point.words.dimensions, point.words.weights);
        vectors = vectors.add_vector(WORDS, words.map_err(|error| error.to_string())?);
    }
    let payload = serde_json::json!({
        HASH: format!("{:016x}", point.hash),
        HAS_MEANING: has_meaning,
    });
    Ok(PointStruct::new(point_id(point.id), vectors, payload).into())
}

/// Removes from a shard's folder what an optimisation left that was ended, and what nobody needs of its log.
fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path.join("temp_segments")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let log = match fs::read_dir(path.join("wal")) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut closed = Vec::new();
    for entry in log {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("closed-"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            closed.push((number, entry.path()));
        }
    }
    closed.sort_unstable();
    closed.pop();
    for (_, path) in closed {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether a problem may pass, so that the files need not be damaged.
pub(super) fn may_pass(problem: &str) -> bool {
    [
        "Permission denied",
        "Too many open files",
        "No space left",
        "Cannot allocate memory",
        "WouldBlock",
        "Read-only file system",
        "Input/output error",
    ]
    .iter()
    .any(|passing| problem.contains(passing))
}
