//! Hybrid search over the catalog: finds assets by the words and by the embeddings of their descriptions.
//!
//! | file | contents |
//! |---|---|
//! | `searcher` | a search from start to end: lookup, fusion and ranking |
//! | `indexing` | updates of the index from the catalog |
//! | `fusion` | the fusion of two rankings |
//! | `handover` | requests from other processes on this machine |
//! | `describe` | the description of an asset |
//! | `words` | the tokens of a text, weighted for BM25 |
//! | `models/` | the models: their files, download and execution |
//! | `index/` | the vector index: in this process or in a Qdrant server |
//! | `stop` | the cancellation of blocking work |

mod describe;
mod error;
mod fusion;
pub mod handover;
pub mod index;
mod indexing;
pub mod models;
mod searcher;
mod stop;
#[cfg(test)]
mod tests;
mod words;

pub use error::SearchError;
pub use indexing::{IndexProgress, IndexReport, IndexStage};
pub use searcher::{Ask, Found, LONGEST_QUERY, MOST_RESULTS, RankedBy, Search, check_text};
pub use stop::{Stop, StopOnDrop};
