//! The trait of both indexes, with its points, queries and results.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::error::IndexError;
use crate::catalog::VisibleAssets;
use crate::model::AssetId;

/// A sparse vector. Its dimensions are sorted and unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WordVector {
    /// The dimensions with non-zero weights.
    pub dimensions: Vec<u32>,
    /// Their weights, in the same order.
    pub weights: Vec<f32>,
}

/// The entry of an asset in the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The asset.
    pub id: AssetId,
    /// The embedding, a vector of length 1; none without a model.
    pub embedding: Option<Vec<f32>>,
    /// The words as a BM25 vector, without the inverse document frequency, which the index applies.
    pub words: WordVector,
    /// The hash of the description that both vectors were computed from.
    pub hash: u64,
}

/// The metadata of a stored point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPoint {
    /// The asset.
    pub id: AssetId,
    /// The hash of the description that its vectors were computed from.
    pub hash: u64,
    /// Whether it has an embedding.
    pub has_embedding: bool,
}

/// A query to the index.
#[derive(Debug, Clone)]
pub struct IndexQuery {
    /// The embedding of the query; none without a model.
    pub embedding: Option<Vec<f32>>,
    /// The query's words with their weights; empty to search by embedding only.
    pub words: WordVector,
    /// The assets that the user may read. Only they are ranked and counted in document frequencies.
    pub granted: Arc<VisibleAssets>,
    /// The maximum length of each list.
    pub limit: usize,
}

/// The result of a query: two lists, best first, with ties in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits {
    /// Ranked by embedding, with the cosine.
    pub by_embedding: Vec<(AssetId, f32)>,
    /// Ranked by words, with the BM25 score. Assets that share no word with the query are omitted.
    pub by_words: Vec<(AssetId, f32)>,
}

/// A vector index.
#[async_trait]
pub trait VectorIndex: Debug + Send + Sync {
    /// Returns the active collection.
    async fn active_collection(&self) -> Result<Option<String>, IndexError>;

    /// Creates a collection, unless it exists, for embeddings with this number of dimensions; none for a collection
    /// without embeddings.
    async fn create(&self, collection: &str, dimensions: Option<usize>) -> Result<(), IndexError>;

    /// Returns all points of a collection, in no particular order.
    async fn stored_points(&self, collection: &str) -> Result<Vec<StoredPoint>, IndexError>;

    /// Inserts or replaces points. They are durable when the call returns.
    async fn put(&self, collection: &str, points: Vec<Point>) -> Result<(), IndexError>;

    /// Removes points. Ids that do not exist are ignored.
    async fn remove(&self, collection: &str, ids: &[AssetId]) -> Result<(), IndexError>;

    /// Optimises a collection for queries after many changes. Can take long.
    async fn optimise(&self, collection: &str) -> Result<(), IndexError>;

    /// Makes a collection the active one, atomically, and removes the others.
    async fn activate(&self, collection: &str) -> Result<(), IndexError>;

    /// Searches a collection. Only granted assets are ranked, before the limit is applied.
    async fn search(&self, collection: &str, lookup: IndexQuery) -> Result<Hits, IndexError>;
}
