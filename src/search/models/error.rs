//! Errors of models.

use std::path::PathBuf;

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
