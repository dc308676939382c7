//! The vector index: one trait for the embedded index in this process and for a Qdrant server.
//!
//! A *collection* holds the vectors of one set of models and one version of the descriptions. One collection is
//! active. Another one may be under construction and replaces it atomically. Besides its vectors, an asset's point
//! stores the hash of its description.
//!
//! | file | contents |
//! |---|---|
//! | `vector_index` | the trait, its points, queries and results |
//! | `edge/` | the embedded index, in a folder |
//! | `qdrant/` | the index in a Qdrant server |
//! | `ranking` | the queries to either index, and the order of ties |
//! | `frequencies` | the number of granted assets that contain a word |
//! | `granted_set_cache` | a cache of data about granted sets |

mod edge;
mod error;
mod frequencies;
mod granted_set_cache;
mod qdrant;
mod ranking;
mod vector_index;

pub use edge::EdgeIndex;
pub use error::IndexError;
pub use qdrant::QdrantIndex;
pub use vector_index::{Hits, IndexQuery, Point, StoredPoint, VectorIndex, WordVector};
