//! The inputs of a run: raw files, and raw files in the archive.

use crate::lake::Store;
use crate::lake::raw::RawFile;

/// A file whose readings are averaged.
#[derive(Debug, Clone)]
pub(in crate::jobs) struct Input {
    /// The key of the file in the ledger.
    pub key: String,
    /// The folder that contains the file.
    pub folder: Store,
    /// The file as it is in the folder.
    pub file: RawFile,
}

/// Returns the archive folder of a lake for expired raw files.
pub(in crate::jobs) fn raw_archive(lake: &Store) -> Store {
    lake.child("archive").child("raw")
}
