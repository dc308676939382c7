//! Delta tables that other programs wrote: the files of their current version.

use std::collections::HashMap;

use deltalake::logstore::{StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError};

use crate::lake::storage::pinned_file::store_error;
use crate::lake::storage::store::Store;

/// The files of the current version of a table, by their paths relative to it, and whether rows of a file are deleted.
pub type CurrentFiles = HashMap<String, bool>;

/// The reasons why a table cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ForeignTableError {
    /// The store fails; the table itself may be valid.
    #[error("cannot read the log of a Delta table")]
    Store(#[source] Box<DeltaTableError>),
    /// The log is damaged, or needs a feature that is not supported.
    #[error("{0}")]
    Unreadable(String),
}

/// Returns the files of the current version of the table in a folder.
pub async fn current_files(folder: &Store) -> Result<CurrentFiles, ForeignTableError> {
    let log = default_logstore(
        folder.objects(),
        folder.root(),
        folder.url(),
        &StorageConfig::default(),
    );
    let mut table = DeltaTable::new(log);
    table.load().await.map_err(classify)?;
    let state = table.snapshot().map_err(classify)?;
    let files = state.log_data();
    Ok(files
        .iter()
        .map(|file| {
            let has_deletions = file.deletion_vector_descriptor().is_some();
            (file.path().into_owned(), has_deletions)
        })
        .collect())
}

fn classify(error: DeltaTableError) -> ForeignTableError {
    match store_error(&error) {
        None | Some(object_store::Error::NotFound { .. }) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            ForeignTableError::Unreadable(first.chars().take(300).collect())
        }
        Some(_) => ForeignTableError::Store(Box::new(error)),
    }
}
