//! The names of the models, their uses, and the folder that contains them.

use std::fmt;
use std::path::PathBuf;

use super::files::{self, ModelStatus};

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
