//! Lists the raw files.

use futures::TryStreamExt;

use super::delta_folders::{LOG_FOLDER, apply_delta_logs};
use super::file_names::is_hidden;
use super::found_entries::{FoundEntries, PassedOver};
use super::local_walk::walk;
use super::raw_file::RawFile;
use crate::lake::storage::store::Store;

/// The error of a raw folder that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the raw folder {folder}")]
pub struct ListError {
    folder: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A folder in the raw folder that cannot be listed, although there are known files in it.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot list the folder {folder}, in which known files are such as {file}: {reason}. Without them, averages would be \
     computed that lack their readings. Give plantlake the permission to list it, or remove it"
)]
struct LostFolder {
    folder: String,
    file: String,
    reason: String,
}

/// The raw files, and the files that are none.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The raw files in order of precedence, with the entries that cannot be used.
    pub files: Vec<RawFile>,
    /// The files that were passed over.
    pub passed_over: PassedOver,
}

/// Returns the raw files of a folder; see [`list_raw_folder`].
pub async fn list_raw_files(raw: &Store) -> Result<Vec<RawFile>, ListError> {
    Ok(list_raw_folder(raw).await?.files)
}

/// Lists the files in the folder and its subfolders. Raw files are those with the ending of Parquet files, and those
/// without an ending or with that of a compression, of which the contents decide later. They are in order of
/// precedence: by modification time, then by path; later files win. Files and folders whose names begin with `.` or `_`
/// are skipped, because they may be incomplete.
pub async fn list_raw_folder(raw: &Store) -> Result<Listing, ListError> {
    let failed = |source| ListError {
        folder: raw.to_string(),
        source,
    };
    let mut found = match raw.local_path() {
        Some(folder) => {
            let folder = folder.to_owned();
            let walked = tokio::task::spawn_blocking(move || walk(&folder)).await;
            let walked = walked.map_err(|error| failed(error.into()))?;
            walked.map_err(|error| failed(error.into()))?
        }
        None => list_objects(raw)
            .await
            .map_err(|error| failed(error.into()))?,
    };
    let applied = apply_delta_logs(raw, &mut found).await;
    applied.map_err(|error| failed(error.into()))?;
    found.make_paths_unique();
    let mut files = found.files;
    files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(Listing {
        files,
        passed_over: found.passed_over,
    })
}

/// Lists the objects of a store that is not a local folder.
async fn list_objects(raw: &Store) -> object_store::Result<FoundEntries> {
    let mut found = FoundEntries::default();
    let mut objects = raw.objects().list(None);
    while let Some(object) = objects.try_next().await? {
        let file = RawFile::from_object(object);
        let log = file.path.rsplit_once('/').and_then(|(folder, name)| {
            let table = folder.strip_suffix(LOG_FOLDER)?;
            match table.strip_suffix('/') {
                Some(table) => Some((table, name)),
                None => table.is_empty().then_some((table, name)),
            }
        });
        if let Some((table, name)) = log {
            found.add_log_entry(table, name, file.size, file.modified);
        }
        if !file.path.split('/').any(|part| is_hidden(part.as_bytes())) {
            found.add_file(file);
        }
    }
    Ok(found)
}

/// Fails if an entry cannot be listed and there are `known` readable files in it, because they only seem to be removed.
pub fn check_known_files<'a>(
    raw: &Store,
    files: &[RawFile],
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), ListError> {
    for file in files {
        let Some(fault) = file.fault.as_ref().filter(|fault| fault.is_folder) else {
            continue;
        };
        let mut inside = known.clone().filter(|path| {
            let rest = path.strip_prefix(file.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if let Some(lost) = inside.next() {
            return Err(ListError {
                folder: raw.to_string(),
                source: Box::new(LostFolder {
                    folder: file.path.clone(),
                    file: lost.to_owned(),
                    reason: fault.reason.clone(),
                }),
            });
        }
    }
    Ok(())
}
