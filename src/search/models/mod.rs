//! The models: their files, where they come from, and how they are run.
//!
//! | file | knows |
//! |---|---|
//! | `files` | what files a model has, and that they are the ones that were fetched |
//! | `fetch/` | where models come from: a folder, the hub, PyPI |
//! | `bert`, `operations` | the transformer, without padding, and what it computes by itself on a CPU |
//! | `tokens`, `batches` | a text's word pieces; many texts, on all cores |
//! | `bi_encoder`, `cross_encoder` | what a text means; how well a text answers a query |
//! | `slot` | loading at the first use, and looking again after it failed |
//! | `device` | the GPU, where there is one and it was built for |
//!
//! A server that nobody searches in reads no model, starts no thread for one, and holds no memory for one.

mod batches;
mod bert;
mod bi_encoder;
mod cross_encoder;
mod device;
pub mod fetch;
mod files;
mod operations;
mod slot;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use bi_encoder::BiEncoder;
pub use cross_encoder::CrossEncoder;
pub use files::{FileHash, Standing};
use slot::Slot;

/// The bi-encoder that is known, with what its weights must be.
const PINNED: (&str, &str) = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
);

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Tells what a text means.
    BiEncoder,
    /// Reads a query and a text together.
    CrossEncoder,
}

impl Use {
    /// Both.
    pub const ALL: [Self; 2] = [Self::BiEncoder, Self::CrossEncoder];
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BiEncoder => "bi-encoder",
            Self::CrossEncoder => "cross-encoder",
        })
    }
}

/// Which models there are to be, and where.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// Each model is in a folder of its own in it.
    pub folder: PathBuf,
    /// The name of the bi-encoder, as the hub knows it.
    pub bi_encoder: String,
    /// The name of the cross-encoder.
    pub cross_encoder: String,
}

impl ModelSettings {
    /// The name of a model.
    pub fn name(&self, what: Use) -> &str {
        match what {
            Use::BiEncoder => &self.bi_encoder,
            Use::CrossEncoder => &self.cross_encoder,
        }
    }

    /// Where its files are, or are to be.
    pub fn folder_of(&self, what: Use) -> PathBuf {
        self.folder.join(self.name(what))
    }

    /// How it stands with the files of a model: all of them are read.
    pub fn standing(&self, what: Use) -> Standing {
        files::standing(&self.folder_of(what), self.name(what))
    }
}

/// The hash that the weights of the model of this name must have, if it is a known one.
fn pinned(name: &str) -> Option<&'static str> {
    (name == PINNED.0).then_some(PINNED.1)
}

/// Tells a bi-encoder from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The SHA-256 of its weights, in hexadecimal.
    pub fingerprint: String,
    /// How many numbers say what a text means.
    pub dimensions: usize,
}

/// The models. Cheap to clone, and to make: nothing is read before it is needed.
#[derive(Debug, Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ModelSettings,
    bi_encoder: Slot<BiEncoder>,
    cross_encoder: Slot<CrossEncoder>,
}

impl Models {
    /// The models that the settings name.
    pub fn new(settings: ModelSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                bi_encoder: Slot::default(),
                cross_encoder: Slot::default(),
            }),
        }
    }

    /// The bi-encoder: loaded at the first call, and kept. None if it was not fetched.
    ///
    /// Blocks for as long as reading it takes. Where it failed, or there was nothing, the next call looks whether the files have
    /// changed.
    pub fn bi_encoder(&self) -> Result<Option<Arc<BiEncoder>>, ModelError> {
        let (folder, name) = self.place(Use::BiEncoder);
        self.shared.bi_encoder.get(&folder, || {
            BiEncoder::open(&files::Files::open_fetched(&folder, name)?)
        })
    }

    /// Which bi-encoder there is, without loading it; none if it was not fetched.
    pub fn bi_encoder_identity(&self) -> Result<Option<Identity>, ModelError> {
        let (folder, name) = self.place(Use::BiEncoder);
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

    /// The cross-encoder, likewise.
    pub fn cross_encoder(&self) -> Result<Option<Arc<CrossEncoder>>, ModelError> {
        let (folder, name) = self.place(Use::CrossEncoder);
        self.shared.cross_encoder.get(&folder, || {
            CrossEncoder::open(&files::Files::open_fetched(&folder, name)?)
        })
    }

    /// The settings that they were made with.
    pub fn settings(&self) -> &ModelSettings {
        &self.shared.settings
    }

    fn place(&self, what: Use) -> (PathBuf, &str) {
        let settings = &self.shared.settings;
        (settings.folder_of(what), settings.name(what))
    }
}

/// Why a model cannot be had, or not be run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    /// A file is missing, or cannot be read.
    #[error("{}: {problem}; `plantlake models fetch` gets the model", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file is damaged, or is not what it should be.
    #[error("{}: {problem}; `plantlake models fetch` gets the model again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The model is one that cannot be run here.
    #[error("{}: {problem}; name another model in the settings (`search.bi_encoder`, `search.cross_encoder`)", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What cannot be done.
        problem: String,
    },
    /// Nobody wrote down what the files must be.
    #[error("{}: the hashes of this model were never recorded; `plantlake models fetch` records and shows them", folder.display())]
    Unrecorded {
        /// The model's folder.
        folder: PathBuf,
    },
    /// Running it failed.
    #[error("the model in {} failed: {problem}", folder.display())]
    Run {
        /// The model's folder.
        folder: PathBuf,
        /// What was said.
        problem: String,
    },
    /// It was asked to stop.
    #[error("it was asked to stop")]
    Stopped,
}
