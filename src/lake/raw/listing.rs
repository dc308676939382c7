//! Which raw files there are.

use futures::TryStreamExt;
use object_store::ObjectMeta;

use crate::lake::Store;

/// One raw file as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    /// Below the raw folder.
    pub path: String,
    /// Names this version of the file.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was last modified, nanoseconds since the epoch.
    pub modified: i64,
}

impl RawFile {
    /// A file that never changes, so that no version of it has to be told from others.
    pub fn fixed(path: &str, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            etag: format!("0-{size}"),
            size,
            modified: 0,
        }
    }

    /// A file as its store tells of it.
    pub(super) fn listed(object: ObjectMeta) -> Self {
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

/// The raw files cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("the raw folder {folder} cannot be listed")]
pub struct RawError {
    folder: String,
    source: object_store::Error,
}

/// All `*.parquet` files below, in the order in which later ones win: by modification time, then path.
/// Files and folders whose names begin with `.` or `_` are somebody's unfinished business.
pub async fn list(raw: &Store) -> Result<Vec<RawFile>, RawError> {
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
            Ok((parquet && !hidden).then(|| RawFile::listed(object)))
        })
        .try_collect()
        .await
        .map_err(|source| RawError {
            folder: raw.to_string(),
            source,
        })?;
    files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(files)
}
