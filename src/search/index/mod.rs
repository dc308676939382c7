//! Where vectors are kept: one face for the index in this process and for a Qdrant server.
//!
//! A *collection* holds the vectors that one set of models and one form of text gave. One collection is in force; another
//! may be in the making, and takes its place at once. What an asset's point holds besides vectors is the hash of what it
//! was made from.

//!
//! | file | knows |
//! |---|---|
//! | `edge/` | the index in this process, in a folder |
//! | `qdrant/` | the index in a Qdrant server |
//! | `ranking` | what is asked of either, and how ties are broken |
//! | `frequencies` | in how many of the granted assets a word occurs |
//! | `recent` | what is remembered for a granted set |

mod edge;
mod frequencies;
mod qdrant;
mod ranking;
mod recent;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::Visible;
use crate::model::AssetId;

pub use self::edge::EdgeIndex;
pub use self::qdrant::QdrantIndex;

/// A sparse vector. Dimensions ascend, and each is there once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sparse {
    /// The dimensions that are not zero.
    pub dimensions: Vec<u32>,
    /// Their weights, in the same order.
    pub weights: Vec<f32>,
}

/// What the index is to hold of an asset.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The asset.
    pub id: AssetId,
    /// What it means: a vector of length 1; none where no model made one.
    pub meaning: Option<Vec<f32>>,
    /// Its words by BM25, without the inverse document frequency, which is the index's to apply.
    pub words: Sparse,
    /// Tells what both were made from.
    pub hash: u64,
}

/// What is known of a point that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The asset.
    pub id: AssetId,
    /// What its vectors were made from.
    pub hash: u64,
    /// Whether it has a vector of its meaning.
    pub has_meaning: bool,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// What it means, if a model says.
    pub meaning: Option<Vec<f32>>,
    /// Its words, each with its weight in the query; none: by meaning only.
    pub words: Sparse,
    /// The only assets that are ranked, and counted in document frequencies.
    pub granted: Arc<Visible>,
    /// How many of each list.
    pub limit: usize,
}

/// What was found: two lists, best first, equal ones in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits {
    /// By meaning, with the cosine.
    pub by_meaning: Vec<(AssetId, f32)>,
    /// By words, with the BM25 score. Who shares no word is not in it.
    pub by_words: Vec<(AssetId, f32)>,
}

/// An index of vectors.
#[async_trait]
pub trait VectorIndex: Debug + Send + Sync {
    /// The collection that is in force.
    async fn in_force(&self) -> Result<Option<String>, IndexError>;

    /// Makes a collection, unless it is there, for meanings of so many dimensions; none: it has no meanings.
    async fn create(&self, collection: &str, dimensions: Option<usize>) -> Result<(), IndexError>;

    /// All points of a collection, in no order.
    async fn stored(&self, collection: &str) -> Result<Vec<Stored>, IndexError>;

    /// Adds points, or puts them in the place of those with the same ids. They are there to stay when it returns.
    async fn put(&self, collection: &str, points: Vec<Point>) -> Result<(), IndexError>;

    /// Removes points; those that are not there do not matter.
    async fn remove(&self, collection: &str, ids: &[AssetId]) -> Result<(), IndexError>;

    /// After many changes: makes looking up as fast as it gets. May take long.
    async fn settle(&self, collection: &str) -> Result<(), IndexError>;

    /// Puts a collection in force, at once, and removes the others.
    async fn put_in_force(&self, collection: &str) -> Result<(), IndexError>;

    /// Looks up in a collection. Only granted assets are ranked, before the limit is applied.
    async fn look_up(&self, collection: &str, lookup: Lookup) -> Result<Hits, IndexError>;
}

/// Why the index cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has the index in this folder.
    #[error(
        "the search index in {folder} is in use by another process{holder}; ask that one, stop it, or let both use a \
         Qdrant server (`qdrant_url`)"
    )]
    InUse {
        /// The index's folder.
        folder: String,
        /// ` (process 4711)`, if it is known.
        holder: String,
    },
    /// The files of the index cannot be read or written.
    #[error("the search index in {folder}: {problem}")]
    Local {
        /// The index's folder.
        folder: String,
        /// What is wrong.
        problem: String,
    },
    /// The Qdrant server cannot be reached, or did not answer in time.
    #[error(
        "the Qdrant server {url} cannot be reached ({problem}); check `qdrant_url` and that it runs"
    )]
    Unavailable {
        /// Its URL.
        url: String,
        /// What was seen.
        problem: String,
    },
    /// The Qdrant server lets nobody in with this key.
    #[error("the Qdrant server {url} refuses the API key; check `qdrant_api_key`")]
    Refused {
        /// Its URL.
        url: String,
    },
    /// A collection is not there: it was removed meanwhile.
    #[error("the index has no collection {collection}; `plantlake index` makes it again")]
    Missing {
        /// The collection.
        collection: String,
    },
    /// The Qdrant server cannot do what is needed.
    #[error("the Qdrant server {url} {problem}")]
    Unfit {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}
