//! Hybrid search over the catalog: finds assets by the words and by the embeddings of their descriptions.
//!
//! | file | contents |
//! |---|---|
//! | `searcher` | a search from start to end: lookup, fusion and ranking |
//! | `searcher/index_passes` | the passes that keep the index up to date |
//! | `request` | the request and the results of a search |
//! | `model_runner` | the execution of models, off the serving threads |
//! | `indexing` | updates of the index from the catalog |
//! | `fusion` | the fusion of two rankings |
//! | `handover`, `handover_server` | requests from other processes on this machine, and the answers to them |
//! | `describe` | the description of an asset |
//! | `bm25` | the tokens of a text, weighted for BM25 |
//! | `models/` | the models: their files, download and execution |
//! | `index/` | the vector index: in this process or in a Qdrant server |
//! | `cancellation` | the cancellation of blocking work |

mod bm25;
mod cancellation;
mod describe;
mod error;
mod fusion;
pub mod handover;
mod handover_server;
pub mod index;
mod indexing;
mod model_runner;
pub mod models;
mod request;
mod searcher;
#[cfg(test)]
mod tests;

pub use cancellation::{CancelOnDrop, CancellationFlag};
pub use error::SearchError;
pub use indexing::{IndexProgress, IndexReport, IndexStage};
pub use request::{
    MAX_QUERY_CHARS, MAX_RESULTS, RankingMethod, SearchRequest, SearchResult, check_text,
};
pub use searcher::Search;
