//! Lists the raw files.

use futures::TryStreamExt;
use object_store::ObjectMeta;

use crate::lake::storage::store::Store;

/// A raw file as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    /// The path relative to the raw folder.
    pub path: String,
    /// The identifier of this version of the file.
    pub etag: String,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last modification, in nanoseconds since the Unix epoch.
    pub modified: i64,
}

impl RawFile {
    /// Returns a file that never changes, so its versions need not be distinguished.
    pub fn immutable(path: &str, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            etag: format!("0-{size}"),
            size,
            modified: 0,
        }
    }

    /// Returns a file from the store's metadata of it.
    pub(super) fn from_object(object: ObjectMeta) -> Self {
        let modified = object
            .last_modified
            .timestamp_nanos_opt()
            .unwrap_or(i64::MAX);
        Self {
            etag: object
                .e_tag
                .unwrap_or_else(|| format!("{modified}-{}", object.size)),
            path: object.location.into(),
            size: object.size,
            modified,
        }
    }
}

/// The error of a raw folder that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the raw folder {folder}")]
pub struct ListError {
    folder: String,
    source: object_store::Error,
}

/// Returns all `*.parquet` files in the folder and its subfolders, in order of precedence: by modification time, then
/// by path; later files win. Files and folders whose names begin with `.` or `_` are skipped, because they may be
/// incomplete.
pub async fn list_raw_files(raw: &Store) -> Result<Vec<RawFile>, ListError> {
    let mut files: Vec<RawFile> = raw
        .objects()
        .list(None)
        .try_filter_map(|object| async move {
            let hidden = object
                .location
                .parts()
                .any(|part| part.as_ref().starts_with(['.', '_']));
            let parquet = object
                .location
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
            Ok((parquet && !hidden).then(|| RawFile::from_object(object)))
        })
        .try_collect()
        .await
        .map_err(|source| ListError {
            folder: raw.to_string(),
            source,
        })?;
    files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(files)
}
