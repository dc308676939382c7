//! Errors of a simulation.

use std::path::PathBuf;

use super::plan::PlanError;
use crate::catalog::CatalogError;

/// The reason for which a simulation failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The plan is invalid.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Existing files are in the way.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The catalog cannot be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An object of the lake cannot be read.
    #[error("cannot read {file} in the lake; check that the lake exists, and its permissions")]
    Read {
        /// The path, relative to the lake.
        file: String,
        /// The error of the store.
        source: object_store::Error,
    },
    /// An object of the lake cannot be written.
    #[error(
        "cannot write {file} in the lake; check the free disk space and the permissions, and simulate again, which \
         replaces the files written so far"
    )]
    Write {
        /// The path, relative to the lake.
        file: String,
        /// The error of the store.
        source: std::io::Error,
    },
    /// A file of an earlier simulation cannot be removed.
    #[error(
        "cannot remove {file} of an earlier simulation; check the permissions, and simulate again"
    )]
    Remove {
        /// The file.
        file: String,
        /// The error of the store.
        source: std::io::Error,
    },
    /// A file of the catalog cannot be read.
    #[error("cannot read {file}; check its permissions")]
    ReadLocal {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Readings cannot be encoded, which is a bug of plantlake.
    #[error(
        "cannot encode the readings of {file} as Parquet; this is a bug in plantlake, please report it"
    )]
    Encode {
        /// The file.
        file: String,
        /// The error of the encoder.
        source: parquet::errors::ParquetError,
    },
    /// A manifest or the ground truth cannot be encoded, which is a bug of plantlake.
    #[error("cannot encode {file} as JSON; this is a bug in plantlake, please report it")]
    Manifest {
        /// The file.
        file: &'static str,
        /// The error of serde.
        source: serde_json::Error,
    },
    /// A worker was cancelled or panicked.
    #[error(
        "a worker of the simulation stopped; simulate again, which replaces the files written so far"
    )]
    Worker(#[source] tokio::task::JoinError),
}

/// The reason for which the simulator refuses to write.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// A file exists that no simulation wrote.
    #[error(
        "cannot simulate: {file} was not written by `plantlake simulate`, which never overwrites or mixes with \
         other data; move it away, or use another folder ({option} DIR)"
    )]
    Foreign {
        /// The file.
        file: String,
        /// The option that sets its folder.
        option: &'static str,
    },
    /// A file of a simulation was changed afterwards.
    #[error(
        "cannot simulate: {file} was changed after `plantlake simulate` wrote it; move it away, delete it, or use \
         another folder ({option} DIR)"
    )]
    Changed {
        /// The file.
        file: String,
        /// The option that sets its folder.
        option: &'static str,
    },
    /// The manifest is invalid, so that the owner of the files is unknown.
    #[error(
        "cannot simulate: {file} is not a manifest of this version of plantlake, so the files of the simulation \
         are unknown; use another folder ({option} DIR), or, if nothing here is worth keeping, delete the folder's \
         simulated files and {file}"
    )]
    Manifest {
        /// The manifest.
        file: String,
        /// The option that sets its folder.
        option: &'static str,
        /// The JSON error, if it is not valid JSON.
        source: Option<serde_json::Error>,
    },
}
