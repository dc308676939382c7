//! Folders: the files in one that are backed up, which are all files at any depth, except hidden files and hidden folders;
//! and making the entries of one durable.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::error::BackupError;

/// The maximum depth of nested folders. A symbolic link to one of its own parent folders exceeds it.
const MAX_DEPTH: usize = 16;

/// Returns the sorted paths of the files below `folder`, relative to it; empty if the folder does not exist. Symbolic
/// links are followed, because Kubernetes lays out a ConfigMap with them.
pub fn files_below(folder: &Path) -> Result<Vec<String>, BackupError> {
    let mut files = Vec::new();
    collect(folder, "", 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(
    folder: &Path,
    below: &str,
    depth: usize,
    files: &mut Vec<String>,
) -> Result<(), BackupError> {
    let failed = BackupError::io("read", folder);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth == 0 => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(BackupError::Name {
                name: name.to_string_lossy().into_owned(),
                problem: "it is not Unicode",
            });
        };
        if name.starts_with('.') {
            continue;
        }
        let (path, below) = (entry.path(), format!("{below}{name}"));
        let about = std::fs::metadata(&path).map_err(BackupError::io("read", &path))?;
        if about.is_file() {
            files.push(below);
        } else if about.is_dir() && depth < MAX_DEPTH {
            collect(&path, &format!("{below}/"), depth + 1, files)?;
        } else if about.is_dir() {
            return Err(BackupError::Name {
                name: path.display().to_string(),
                problem: "it is more than 16 folders deep, or a symbolic link points to one of its parent folders",
            });
        }
    }
    Ok(())
}

/// The sizes and modification times of files, to detect changes during a backup.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamps(BTreeMap<String, (u64, Option<SystemTime>)>);

impl Stamps {
    /// Reads the stamps of the files below `folder`.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let mut stamps = BTreeMap::new();
        for file in files_below(folder)? {
            let path = folder.join(&file);
            let about = path.metadata().map_err(BackupError::io("read", &path))?;
            stamps.insert(file, (about.len(), about.modified().ok()));
        }
        Ok(Self(stamps))
    }

    /// Returns the files and their sizes in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .map(|(file, (size, _))| (file.as_str(), *size))
    }
}

/// Returns the folder that contains `path`; `.` if the path names none.
pub(super) fn parent_folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Waits until the entries of a folder are on disk.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
