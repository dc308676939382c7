//! The vector index: one trait for the embedded index in this process and for a Qdrant server.
//!
//! A *collection* holds the vectors of one set of models and one version of the descriptions. One collection is
//! active. Another one may be under construction and replaces it atomically. Besides its vectors, an asset's point
//! stores the hash of its description.
//!
//! | file | contents |
//! |---|---|
//! | `edge/` | the embedded index, in a folder |
//! | `qdrant/` | the index in a Qdrant server |
//! | `ranking` | the queries to either index, and the order of ties |
//! | `frequencies` | the number of granted assets that contain a word |
//! | `granted_set_cache` | a cache of data about granted sets |

mod edge;
mod frequencies;
mod granted_set_cache;
mod qdrant;
mod ranking;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::VisibleAssets;
use crate::model::AssetId;

pub use self::edge::EdgeIndex;
pub use self::qdrant::QdrantIndex;

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

/// An error of the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has locked the index in this folder.
    #[error(
        "the search index in {folder} is in use by another process{holder}; send the request to that process, stop it, or \
         let both use a Qdrant server (`qdrant_url`)"
    )]
    InUse {
        /// The index's folder.
        folder: String,
        /// ` (process 4711)`, if the id is known.
        holder: String,
    },
    /// The files of the index cannot be read or written.
    #[error("cannot use the search index in {folder}: {problem}")]
    Local {
        /// The index's folder.
        folder: String,
        /// The cause.
        problem: String,
    },
    /// The Qdrant server cannot be reached, or did not answer in time.
    #[error(
        "cannot reach the Qdrant server {url}: {problem}; check `qdrant_url` and that the server runs"
    )]
    Unavailable {
        /// Its URL.
        url: String,
        /// The cause.
        problem: String,
    },
    /// The Qdrant server rejects the API key.
    #[error("the Qdrant server {url} rejects the API key; check `qdrant_api_key`")]
    Unauthenticated {
        /// Its URL.
        url: String,
    },
    /// A collection does not exist, because it was removed in the meantime.
    #[error("the index has no collection {collection}; run `plantlake index` to rebuild it")]
    Missing {
        /// The collection.
        collection: String,
    },
    /// The Qdrant server or its configuration is unsuitable.
    #[error("the Qdrant server {url} {problem}")]
    Unsuitable {
        /// Its URL.
        url: String,
        /// The cause.
        problem: String,
    },
}
