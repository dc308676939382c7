//! A Qdrant shard: its configuration, recovery, updates and queries, and the requirements that it puts on its caller.
//!
//! The library is version 0.7, the latest that our compiler supports. It has these limitations:
//!
//! - It does not replay its write-ahead log when it opens a shard. Changes that were not flushed are lost, or are
//!   incomplete. So the ids of a change are recorded beforehand (`changing`), and are removed from the shard if it is
//!   opened while that list exists.
//! - It does not truncate the log either. Closed log files are unneeded except for the last one: operations are
//!   numbered by it, and an operation with a lower number would be ignored.
//! - A failed flush panics, and closing a shard flushes. So every call catches panics.
//! - A point that replaces another one in an optimised segment inherits the vectors that it lacks.

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

use super::index_folder;
use crate::model::AssetId;
use crate::search::index::vector_index::{Point, StoredPoint, WordVector};

/// The vector with the embedding.
const MEANING: &str = "meaning";
/// The vector with the words.
const WORDS: &str = "words";
/// The payload field with the hash of the description.
const HASH: &str = "hash";
/// The payload field that is true if the point has an embedding, so that no vectors need to be read for it.
const HAS_MEANING: &str = "has_meaning";

/// The file with the ids that are being changed.
const CHANGING: &str = "changing";

/// The maximum number of points per update. Each update is one record of the log.
const MAX_POINTS_PER_UPDATE: usize = 256;
/// The number of points per page.
const POINTS_PER_PAGE: usize = 2_000;

/// A handle to a shard.
#[derive(Debug)]
pub(super) struct Shard {
    /// None only while the shard is closed.
    shard: Option<EdgeShard>,
    path: PathBuf,
}

/// The size in KB up to which embeddings are compared one by one, which is exact. An embedding has 4 bytes per
/// dimension: 13,000 of 384 dimensions are compared in 2 ms.
const FULL_SCAN_THRESHOLD_KB: usize = 20_000;

fn config(dimensions: Option<usize>) -> EdgeConfig {
    let words = EdgeSparseVectorParams::builder().build();
    let mut config = EdgeConfig::builder()
        .sparse_vector(WORDS, words)
        .hnsw_config(HnswIndexConfig {
            full_scan_threshold: FULL_SCAN_THRESHOLD_KB,
            max_indexing_threads: indexing_threads(),
            ..HnswIndexConfig::default()
        })
        .optimizers(EdgeOptimizersConfig {
            // One indexed segment and one for new points: every query searches all segments one after the other.
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

/// Half of the cores, so that a server keeps answering during an optimisation.
fn indexing_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores / 2).max(1)
}

/// The message of an error in the shard.
pub(super) type Problem = String;

/// Calls Qdrant and turns a panic into an error.
fn catch_panics<T>(call: impl FnOnce() -> Result<T, OperationError>) -> Result<T, Problem> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(panic_message(&*panic)),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(said), _) => said.clone(),
        (None, Some(said)) => (*said).to_owned(),
        (None, None) => "it panicked without a message".to_owned(),
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

/// Returns the filter that lists assets.
pub(super) fn id_filter(ids: &[AssetId]) -> Filter {
    let ids: HasIdCondition = ids.iter().map(|id| point_id(*id)).collect();
    Filter::new_must(Condition::HasId(ids))
}

impl Shard {
    /// Opens a shard. If `dimensions` is given and the folder is empty, creates it; the inner `None` creates a shard
    /// without embeddings.
    pub fn open(path: &Path, dimensions: Option<Option<usize>>) -> Result<Self, Problem> {
        remove_leftovers(path).map_err(|error| error.to_string())?;
        let shard = catch_panics(|| EdgeShard::load(path, dimensions.map(config)))?;
        let shard = Self {
            shard: Some(shard),
            path: path.to_owned(),
        };
        shard.remove_incomplete_change()?;
        Ok(shard)
    }

    fn shard(&self) -> Result<&EdgeShard, Problem> {
        self.shard
            .as_ref()
            .ok_or_else(|| "the shard is closed".to_owned())
    }

    /// Removes the points of an incomplete change.
    fn remove_incomplete_change(&self) -> Result<(), Problem> {
        let list = match fs::read_to_string(self.path.join(CHANGING)) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let ids = list.lines().filter_map(|line| AssetId::parse(line).ok());
        self.delete(&ids.collect::<Vec<_>>())?;
        self.flush()?;
        self.clear_recorded_change()
    }

    fn record_change(&self, ids: &[AssetId]) -> Result<(), Problem> {
        let list: Vec<String> = ids.iter().map(AssetId::to_string).collect();
        index_folder::write(&self.path, CHANGING, &list.join("\n"))
            .map_err(|error| error.to_string())
    }

    fn clear_recorded_change(&self) -> Result<(), Problem> {
        let done =
            fs::remove_file(self.path.join(CHANGING)).and_then(|()| index_folder::sync(&self.path));
        done.map_err(|error| error.to_string())
    }

    fn update(&self, operation: PointOperations) -> Result<(), Problem> {
        let shard = self.shard()?;
        catch_panics(|| shard.update(UpdateOperation::PointOperation(operation)))
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
        catch_panics(|| {
            shard.flush();
            Ok(())
        })
    }

    /// Inserts or replaces points durably. No other change may run at the same time.
    pub fn put(&self, points: Vec<Point>) -> Result<(), Problem> {
        let ids: Vec<AssetId> = points.iter().map(|point| point.id).collect();
        self.record_change(&ids)?;
        let lacks = |point: &&Point| point.embedding.is_none() || point.words.dimensions.is_empty();
        let lacking: Vec<AssetId> = points.iter().filter(lacks).map(|point| point.id).collect();
        self.delete(&lacking)?;
        let mut points = points.into_iter().map(to_persisted).peekable();
        while points.peek().is_some() {
            let some: Result<Vec<PointStructPersisted>, Problem> =
                points.by_ref().take(MAX_POINTS_PER_UPDATE).collect();
            let some = PointInsertOperations::PointsList(some?);
            self.update(PointOperations::UpsertPoints(some))?;
        }
        self.flush()?;
        self.clear_recorded_change()
    }

    /// Removes points durably.
    pub fn remove(&self, ids: &[AssetId]) -> Result<(), Problem> {
        self.record_change(ids)?;
        self.delete(ids)?;
        self.flush()?;
        self.clear_recorded_change()
    }

    /// Builds the HNSW graph and compacts the segments.
    pub fn optimise(&self) -> Result<(), Problem> {
        let shard = self.shard()?;
        catch_panics(|| shard.optimize())?;
        self.flush()
    }

    /// Returns the approximate number of points.
    pub fn count(&self) -> Result<usize, Problem> {
        let shard = self.shard()?;
        catch_panics(|| {
            shard.count(CountRequest {
                filter: None,
                exact: false,
            })
        })
    }

    /// Whether the shard stores embeddings.
    pub fn has_embeddings(&self) -> bool {
        let shard = self.shard.as_ref();
        shard.is_some_and(|shard| shard.config().vectors.contains_key(MEANING))
    }

    /// Returns the metadata of all points.
    pub fn stored_points(&self) -> Result<Vec<StoredPoint>, Problem> {
        let mut stored = Vec::new();
        self.for_each_page(true, WithVector::Bool(false), |record| {
            let Some(id) = asset_id(record.id) else {
                return;
            };
            let payload = record.payload.as_ref().map(|payload| &payload.0);
            let text = |name: &str| payload.and_then(|payload| payload.get(name));
            let hash = text(HASH).and_then(|hash| u64::from_str_radix(hash.as_str()?, 16).ok());
            let has_meaning =
                text(HAS_MEANING).and_then(qdrant_edge::external::serde_json::Value::as_bool);
            stored.push(StoredPoint {
                id,
                // A point without a hash counts as missing: 0 makes it outdated, so it is replaced or removed.
                hash: hash.unwrap_or_default(),
                has_embedding: has_meaning.unwrap_or_default(),
            });
        })?;
        Ok(stored)
    }

    /// Calls `take` with the words of each point.
    pub fn words(&self, mut take: impl FnMut(AssetId, &[u32])) -> Result<(), Problem> {
        let only_words = WithVector::Selector(vec![WORDS.into()]);
        self.for_each_page(false, only_words, |record| {
            if let (Some(id), Some(VectorStructInternal::Named(vectors))) =
                (asset_id(record.id), &record.vector)
                && let Some(VectorInternal::Sparse(words)) = vectors.get(WORDS)
            {
                take(id, &words.indices);
            }
        })
    }

    fn for_each_page(
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
            let (records, next) = catch_panics(|| shard.scroll(request))?;
            records.iter().for_each(&mut take);
            if next.is_none() {
                return Ok(());
            }
            offset = next;
        }
    }

    /// Returns the nearest points by embedding.
    pub fn nearest_by_embedding(
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

    /// Returns the best points by words with weights that include the inverse document frequency.
    pub fn best_by_words(
        &self,
        words: WordVector,
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
        let found = catch_panics(|| shard.query(request))?;
        let scored = |point: &qdrant_edge::ScoredPoint| Some((asset_id(point.id)?, point.score));
        Ok(found.iter().filter_map(scored).collect())
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let shard = self.shard.take();
        // Closing flushes; everything that must be durable has already been flushed.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(shard)));
    }
}

fn to_persisted(point: Point) -> Result<PointStructPersisted, Problem> {
    let has_meaning = point.embedding.is_some();
    let mut vectors = NamedVectors::default();
    if let Some(meaning) = point.embedding {
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

/// Removes the leftovers of an interrupted optimisation and unneeded log files from a shard's folder.
fn remove_leftovers(path: &Path) -> io::Result<()> {
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

/// Whether a problem may be temporary, so that the files are not necessarily damaged.
pub(super) fn is_temporary(problem: &str) -> bool {
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
