//! Semantic search over the catalog: assets are found by what they are, in words or in meaning.
//!
//! | file | knows |
//! |---|---|
//! | `searcher` | how an answer comes about: what is looked up, fused and ranked |
//! | `indexing` | how the index follows the catalog |
//! | `fusion` | how two rankings become one |
//! | `handover` | how another process on this machine has its requests done |
//! | `describe` | an asset's text |
//! | `words` | a text's words, weighed for BM25 |
//! | `models/` | the models' files, where they come from, and how they are run |
//! | `index/` | where vectors are kept: in this process, or in a Qdrant server |
//! | `stop` | how work that nobody waits for any more is ended |

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
