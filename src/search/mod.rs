//! Semantic search over the catalog: assets are found by what they are, in words or in meaning.
//!
//! | file | knows |
//! |---|---|
//! | `models/` | the models' files, where they come from, and how they are run |
//! | `index/` | where vectors are kept: in this process, or in a Qdrant server |
//! | `stop` | how work that nobody waits for any more is ended |

pub mod index;
pub mod models;
mod stop;

pub use stop::{Stop, StopOnDrop};
