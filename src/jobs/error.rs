//! The errors of batch jobs.

use std::error::Error;

use datafusion::common::DataFusionError;

use crate::lake::Store;
use crate::lake::delta::error::TableError;
use crate::lake::raw::archive_copy::CopyError;
use crate::lake::raw::{ListError, RawFileError};
use crate::lake::records::lease::LeaseError;
use crate::lake::records::runs::RunsError;
use crate::model::Resolution;

/// The maximum number of attempts of a run. A run starts over if raw files change while it reads them, or turn out to
/// be damaged.
pub(super) const MAX_ATTEMPTS: usize = 20;

/// The reasons why a run failed. Readers see nothing of what it wrote, and the next run replaces it.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another run holds the lease, or took it over.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The raw folder cannot be listed.
    #[error("cannot list the raw files")]
    Raw(#[from] ListError),
    /// The store of the raw files fails.
    #[error("cannot read the raw files")]
    RawStore(#[source] RawFileError),
    /// A raw file cannot be archived or restored.
    #[error("cannot archive or restore raw files")]
    Archive(#[source] Box<CopyError>),
    /// There is an archive that no known run created.
    #[error(
        "cannot create the archive: {folder} has tables with rows that no recorded run wrote; the records of runs were lost, \
         or the tables belong to another lake. They were not changed. Move them elsewhere, where any reader of Delta tables \
         can read them, and run again"
    )]
    UnknownArchive {
        /// The folder of the archive.
        folder: String,
    },
    /// A raw file is not deleted, because its copy is missing in the archive.
    #[error(
        "cannot delete the expired raw file {path}: its copy {file} is missing. Restore the copy; or touch the raw file, and \
         the next `plantlake resample` treats it as restored"
    )]
    MissingArchiveCopy {
        /// The missing copy.
        file: String,
        /// The path of the raw file.
        path: String,
    },
    /// The archive of raw files is empty, although raw files were archived.
    #[error(
        "cannot read the archived raw files: {folder} is empty, but {files} raw files were archived there, and late readings \
         are averaged with them. Check that it is mounted, or restore it, and run again"
    )]
    EmptyArchive {
        /// The folder of the archive.
        folder: String,
        /// The number of raw files that were archived.
        files: usize,
    },
    /// The records of runs cannot be read or written.
    #[error("cannot use the records of runs")]
    Runs(#[from] RunsError),
    /// A table cannot be read or committed to.
    #[error("cannot use table {table}")]
    Table {
        /// The name of the table.
        table: &'static str,
        /// The table's error.
        source: Box<TableError>,
    },
    /// The rollups cannot be written.
    #[error("cannot write the rollups")]
    Files(#[from] RollupFilesError),
    /// The computation failed.
    #[error("cannot compute the rollups")]
    Compute(#[from] DataFusionError),
    /// A remote store fails in the middle of a run.
    #[error("cannot use the store {location}; check that it is reachable, and run again")]
    Store {
        /// The URL of the store and its endpoint.
        location: String,
        /// The step that failed.
        source: Box<Self>,
    },
    /// Raw files change faster than they can be read.
    #[error(
        "raw files changed while they were read, {MAX_ATTEMPTS} times; write files under another name and rename them when they are complete"
    )]
    FilesChanging,
}

/// The reasons why the files of a run cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RollupFilesError {
    /// A table's file cannot be written or read.
    #[error("cannot write a data file of {table}")]
    Table {
        /// The name of the table.
        table: &'static str,
        /// The table's error.
        source: Box<TableError>,
    },
    /// The task of a writer panicked or was cancelled.
    #[error("the task of a writer failed")]
    Task(#[source] tokio::task::JoinError),
    /// Rows cannot be merged.
    #[error("cannot sort rollup rows")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl JobError {
    /// Returns the error with the location of the store, if a remote store caused it. Errors of a store that was lost in
    /// the middle of an object name the object only.
    pub(super) fn with_location(self, lake: &Store, raw: &Store) -> Self {
        let store = match &self {
            // It names the object and its URL.
            Self::Lease(_) => return self,
            Self::Raw(_) | Self::RawStore(_) => raw,
            Self::Compute(error) if causes(error).any(|it| it.is::<RawFileError>()) => raw,
            _ => lake,
        };
        if store.local_path().is_some() || !causes(&self).any(is_store_failure) {
            return self;
        }
        Self::Store {
            location: store.location(),
            source: Box::new(self),
        }
    }
}

/// Returns the error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether a store failed, and not only an object that is missing or has changed.
fn is_store_failure(error: &(dyn Error + 'static)) -> bool {
    let boxed = || error.downcast_ref::<Box<object_store::Error>>();
    let error = error
        .downcast_ref()
        .or_else(|| boxed().map(|error| &**error));
    error.is_some_and(|error: &object_store::Error| {
        use object_store::Error::{
            AlreadyExists, InvalidPath, NotFound, NotModified, Precondition,
        };
        !matches!(
            error,
            AlreadyExists { .. }
                | InvalidPath { .. }
                | NotFound { .. }
                | NotModified { .. }
                | Precondition { .. }
        )
    })
}

impl From<CopyError> for JobError {
    fn from(error: CopyError) -> Self {
        Self::Archive(Box::new(error))
    }
}

/// Returns a conversion of the errors of a table.
pub(super) fn table_error(resolution: Resolution) -> impl Fn(TableError) -> JobError {
    move |source| JobError::Table {
        table: resolution.table(),
        source: Box::new(source),
    }
}
