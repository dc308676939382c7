//! The handle to the models, which are loaded at their first use.

use std::path::PathBuf;
use std::sync::Arc;

use super::bi_encoder::BiEncoder;
use super::cross_encoder::CrossEncoder;
use super::error::ModelError;
use super::files;
use super::lazy_model::LazyModel;
use super::settings::{ModelSettings, ModelUse};

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
