//! Walks the raw folder on the local disk. Unlike the object store's listing, an entry that cannot be used does not end
//! it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::delta_folders::LOG_FOLDER;
use super::file_names::{NameKind, is_hidden, name_fault, name_kind};
use super::found_entries::FoundEntries;
use super::raw_file::RawFile;

/// A folder, and the folders that it is in.
struct Folder {
    path: PathBuf,
    /// The path relative to the raw folder; empty for the raw folder itself.
    relative: String,
    /// The path without links.
    canonical: PathBuf,
    parent: Option<Arc<Self>>,
}

impl Folder {
    /// Returns the relative path of an entry. Bytes that are not UTF-8 and control characters are escaped.
    fn relative_path(&self, name: &OsStr) -> String {
        let mut path = self.relative.clone();
        if !path.is_empty() {
            path.push('/');
        }
        for chunk in name.as_encoded_bytes().utf8_chunks() {
            for sign in chunk.valid().chars() {
                match sign.is_control() {
                    true => path.extend(sign.escape_default()),
                    false => path.push(sign),
                }
            }
            for byte in chunk.invalid() {
                path.push_str(&format!("\\x{byte:02x}"));
            }
        }
        path
    }

    /// Whether the folder at a path without links is this one, or contains it.
    fn is_inside(&self, canonical: &Path) -> bool {
        let mut folder = Some(self);
        while let Some(one) = folder {
            if one.canonical == canonical {
                return true;
            }
            folder = one.parent.as_deref();
        }
        false
    }
}

/// Returns the entries of a folder and its subfolders. Links are followed.
///
/// # Errors
/// The folder itself, or an entry for another reason than its name, a missing permission or a circular link, cannot be
/// read. The files in it are not gone then, so nothing can be said about the others.
pub(super) fn walk(root: &Path) -> io::Result<FoundEntries> {
    let mut found = FoundEntries::default();
    let mut open = vec![Arc::new(Folder {
        path: root.to_owned(),
        relative: String::new(),
        canonical: root.canonicalize()?,
        parent: None,
    })];
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(&folder.path) {
            Ok(entries) => entries,
            Err(error) if folder.parent.is_none() => return Err(error),
            // The folder was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let reason = "its files cannot be listed: permission denied";
                found.add_fault(folder.relative.clone(), reason, true);
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name == LOG_FOLDER {
                add_log(&entry.path(), &folder.relative, &mut found)?;
            }
            if !is_hidden(name.as_encoded_bytes()) {
                add_entry(&entry, &name, &folder, &mut found, &mut open)?;
            }
        }
    }
    Ok(found)
}

fn add_entry(
    entry: &fs::DirEntry,
    name: &OsStr,
    folder: &Arc<Folder>,
    found: &mut FoundEntries,
    open: &mut Vec<Arc<Folder>>,
) -> io::Result<()> {
    let relative = folder.relative_path(name);
    let kind = name_kind(name.as_encoded_bytes());
    let is_candidate = matches!(kind, NameKind::Parquet | NameKind::Undecided);
    let path = entry.path();
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if is_link && is_candidate {
                let reason = "it is a link to nothing";
                found.passed_over.add(relative, reason.to_owned());
            }
            return Ok(());
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let may_be_folder = entry.file_type().is_ok_and(|kind| !kind.is_file());
            if is_candidate || may_be_folder {
                found.add_fault(relative, "it cannot be read: permission denied", true);
            }
            return Ok(());
        }
        Err(error) if is_link && is_circular(&error) => {
            found.add_fault(relative, "it is a link that leads to itself", false);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let fault = name_fault(name.as_encoded_bytes());
    if metadata.is_dir() {
        let canonical = match is_link {
            true => path.canonicalize()?,
            false => folder.canonical.join(name),
        };
        if folder.is_inside(&canonical) {
            let reason = "it is a link to a folder that contains it";
            found.add_fault(relative, reason, false);
        } else if let Some(fault) = fault {
            found.add_fault(relative, fault, true);
        } else {
            open.push(Arc::new(Folder {
                path,
                relative,
                canonical,
                parent: Some(Arc::clone(folder)),
            }));
        }
        return Ok(());
    }
    match fault {
        _ if !metadata.is_file() => {
            if is_candidate {
                let reason = "it is neither a file nor a folder";
                found.passed_over.add(relative, reason.to_owned());
            }
        }
        Some(fault) if is_candidate => found.add_fault(relative, fault, false),
        _ => found.add_file(to_raw_file(relative, &metadata)),
    }
    Ok(())
}

/// Adds the entries of the log of a Delta table.
fn add_log(log: &Path, table: &str, found: &mut FoundEntries) -> io::Result<()> {
    let entries = match fs::read_dir(log) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if let (Some(name), Ok(metadata)) = (entry.file_name().to_str(), entry.metadata()) {
            found.add_log_entry(table, name, metadata.len(), modified_nanos(&metadata));
        }
    }
    Ok(())
}

/// Whether the operating system followed too many links.
fn is_circular(error: &io::Error) -> bool {
    // The number of ELOOP on Linux, and on BSD and macOS.
    matches!(error.raw_os_error(), Some(40 | 62))
}

fn to_raw_file(path: String, metadata: &Metadata) -> RawFile {
    RawFile {
        path,
        etag: etag(metadata),
        size: metadata.len(),
        modified: modified_nanos(metadata),
        fault: None,
    }
}

fn since_epoch(metadata: &Metadata) -> Option<std::time::Duration> {
    let modified = metadata.modified().ok()?;
    modified.duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// Returns the time of the last modification in nanoseconds since the Unix epoch.
fn modified_nanos(metadata: &Metadata) -> i64 {
    let Ok(modified) = metadata.modified() else {
        return 0;
    };
    match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MAX, |nanos| -nanos),
    }
}

/// Returns the identifier of a version as the object store computes it, which compares it when the file is read.
fn etag(metadata: &Metadata) -> String {
    let micros = since_epoch(metadata).unwrap_or_default().as_micros();
    format!("{:x}-{micros:x}-{:x}", inode(metadata), metadata.len())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::lake::storage::store::{Store, StoreOptions};

    #[tokio::test]
    async fn walk_finds_the_same_versions_as_the_object_store() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a b.parquet",
            "100%.parquet",
            "Füllstand/größe.parquet",
            "a%2Fb.parquet",
            "C:\\data\\a.parquet",
            "id=%7B1%7D/000000_0",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let linked = tempfile::tempdir().unwrap();
        fs::write(linked.path().join("b.parquet"), "b").unwrap();
        std::os::unix::fs::symlink(linked.path(), folder.path().join("link")).unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), &StoreOptions::new()).unwrap();
        let listed = store.objects().list(None).map_ok(RawFile::from_object);
        let mut listed: Vec<RawFile> = listed.try_collect().await.unwrap();
        let mut walked = walk(folder.path()).unwrap().files;
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        walked.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(walked.len(), 7);
        assert_eq!(walked, listed);
    }
}
