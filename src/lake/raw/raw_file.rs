//! A raw file as it was listed.

use object_store::ObjectMeta;

/// The version of entries that cannot be used. No file has it, so the entry is read again once it can be.
const FAULTY_ETAG: &str = "unusable";

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
    /// The fault of an entry that cannot be used, if it has one.
    pub fault: Option<EntryFault>,
}

/// The fault of an entry of the raw folder that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFault {
    /// The reason.
    pub reason: String,
    /// Whether the entry is a folder whose files are unknown.
    pub is_folder: bool,
}

impl RawFile {
    /// Returns a file that never changes, so its versions need not be distinguished.
    pub fn immutable(path: &str, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            etag: format!("0-{size}"),
            size,
            modified: 0,
            fault: None,
        }
    }

    /// Returns an entry that cannot be used.
    pub(super) fn faulty(path: String, reason: String, is_folder: bool) -> Self {
        Self {
            path,
            etag: FAULTY_ETAG.to_owned(),
            size: 0,
            modified: 0,
            fault: Some(EntryFault { reason, is_folder }),
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
            fault: None,
        }
    }
}
