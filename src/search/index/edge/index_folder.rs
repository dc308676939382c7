//! The folder of the embedded index: its lock, its collections and which of them is active.
//!
//! | name | contents |
//! |---|---|
//! | `lock` | locked by the process that owns the index; contains its process id |
//! | `current` | the name of the active collection |
//! | `building` | the collections under construction, one per line; an interrupted run is continued |
//! | `damaged/` | an unreadable collection, kept until another one is active |
//! | `<collection>/` | a shard of Qdrant |

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::search::index::error::IndexError;

const LOCK: &str = "lock";
const CURRENT: &str = "current";
const BUILDING: &str = "building";
const DAMAGED: &str = "damaged";

/// The free disk space in bytes that new data requires, which is more than new files take at once. Files are
/// memory-mapped: a write to a page without disk space would kill the process.
pub(super) const MIN_FREE_BYTES: u64 = 192 << 20;
/// The free disk space in bytes for opening a collection or removing points, which write little.
pub(super) const MIN_FREE_BYTES_TO_OPEN: u64 = 48 << 20;

/// Keeps other processes out for as long as it exists.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The folder, locked by this process.
#[derive(Debug)]
pub(super) struct IndexFolder {
    folder: PathBuf,
    current: Option<String>,
    building: Vec<String>,
    lock: Arc<Lock>,
}

/// Creates an error of the index in `folder`.
pub(super) fn failed(folder: &Path, problem: impl std::fmt::Display) -> IndexError {
    IndexError::Local {
        folder: folder.display().to_string(),
        problem: problem.to_string(),
    }
}

impl IndexFolder {
    /// Locks the folder, unless another process has done so, and removes the leftovers of earlier processes.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let wrong = |error| failed(folder, error);
        fs::create_dir_all(folder).map_err(wrong)?;
        // The lock comes before any read: Qdrant repairs the files that it reads, even if another process uses them.
        let lock = lock(folder)?;
        // A damaged file names no existing collection.
        let line = |name: &str| match fs::read(folder.join(name)) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(wrong(error)),
        };
        let is_there =
            |name: &String| check_name(folder, name).is_ok() && folder.join(name.as_str()).is_dir();
        let names = |text: String| {
            let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
            names.into_iter().filter(is_there)
        };
        let home = Self {
            folder: folder.to_owned(),
            current: names(line(CURRENT)?).next(),
            building: names(line(BUILDING)?).collect(),
            lock: Arc::new(lock),
        };
        home.remove_unneeded(|_| false).map_err(wrong)?;
        Ok(home)
    }

    /// Removes collections that are neither active, nor under construction, nor in use.
    pub fn remove_unneeded(&self, is_in_use: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_needed = self.current.as_ref() == Some(&name) || self.building.contains(&name);
            let is_needed = is_needed || is_in_use(&name) || name == DAMAGED;
            if entry.file_type()?.is_dir() && !is_needed {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the lock, which keeps other processes out.
    pub fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }

    /// Returns the active collection.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Returns a collection's folder, whether or not it exists.
    pub fn path(&self, collection: &str) -> Result<PathBuf, IndexError> {
        check_name(&self.folder, collection)?;
        Ok(self.folder.join(collection))
    }

    /// Whether the collection exists.
    pub fn contains(&self, collection: &str) -> bool {
        self.current() == Some(collection) || self.building.iter().any(|name| name == collection)
    }

    /// Creates the folder of a new collection.
    pub fn create(&mut self, collection: &str) -> Result<(), IndexError> {
        let path = self.path(collection)?;
        check_free_space(&self.folder, MIN_FREE_BYTES)?;
        let mut building = self.building.clone();
        building.push(collection.to_owned());
        write(&self.folder, BUILDING, &building.join("\n"))?;
        fs::create_dir_all(path).map_err(|error| failed(&self.folder, error))?;
        self.building = building;
        Ok(())
    }

    /// Makes a collection the active one. All other collections become obsolete.
    pub fn activate(&mut self, collection: &str) -> Result<(), IndexError> {
        write(&self.folder, CURRENT, collection)?;
        self.current = Some(collection.to_owned());
        write(&self.folder, BUILDING, "")?;
        self.building.clear();
        // The damaged collection has been replaced. A failure is harmless, also for the next process that locks the
        // folder.
        let _ = fs::remove_dir_all(self.folder.join(DAMAGED));
        Ok(())
    }

    /// Sets an unreadable collection aside, so that it no longer exists.
    pub fn set_aside(&mut self, collection: &str) -> Result<PathBuf, IndexError> {
        let wrong = |error| failed(&self.folder, error);
        let path = self.path(collection)?;
        let damaged = self.folder.join(DAMAGED);
        if damaged.exists() {
            fs::remove_dir_all(&damaged).map_err(wrong)?;
        }
        fs::rename(path, &damaged).map_err(wrong)?;
        self.building.retain(|name| name != collection);
        write(&self.folder, BUILDING, &self.building.join("\n"))?;
        if self.current() == Some(collection) {
            write(&self.folder, CURRENT, "")?;
            self.current = None;
        }
        Ok(damaged)
    }
}

fn lock(folder: &Path) -> Result<Lock, IndexError> {
    let wrong = |error| failed(folder, error);
    let path = folder.join(LOCK);
    let open = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = open.map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.read_to_string(&mut process);
            return Err(IndexError::InUse {
                folder: folder.display().to_string(),
                holder: match process.trim().parse::<u32>() {
                    Ok(process) => format!(" (process {process})"),
                    Err(_) => String::new(),
                },
            });
        }
        Err(fs::TryLockError::Error(error)) => return Err(wrong(error)),
    }
    // The process id is for the message to other processes; the lock itself does not depend on it.
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| write!(file, "{}", std::process::id()));
    written.map_err(wrong)?;
    Ok(Lock { _file: file })
}

/// Checks the name of a collection, which becomes the name of a folder.
fn check_name(folder: &Path, collection: &str) -> Result<(), IndexError> {
    let is_taken = [LOCK, CURRENT, BUILDING, DAMAGED].contains(&collection);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match collection.chars().all(is_plain)
        && !collection.is_empty()
        && !collection.starts_with('.')
        && !is_taken
    {
        true => Ok(()),
        false => Err(failed(
            folder,
            format!("invalid collection name {collection:?}"),
        )),
    }
}

/// Writes a small file atomically and durably.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> Result<(), IndexError> {
    let new = folder.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, folder.join(name))?;
        sync(folder)
    };
    write().map_err(|error: io::Error| failed(folder, error))
}

/// Makes the creation, renaming and removal of files in a folder durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Checks that the disk has at least this much free space.
pub(super) fn check_free_space(folder: &Path, min_bytes: u64) -> Result<(), IndexError> {
    match free_bytes(folder) {
        Some(free) if free < min_bytes => Err(failed(
            folder,
            format!(
                "the disk has only {} MiB left; {} MiB are required",
                free >> 20,
                min_bytes >> 20
            ),
        )),
        _ => Ok(()),
    }
}

/// Returns the free disk space in bytes, if it can be determined.
#[cfg(unix)]
#[expect(
    unsafe_code,
    reason = "the system call that returns the free disk space fills in a structure"
)]
fn free_bytes(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;

    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` consists of integers, for which all bits zero is a valid value.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated, and `answer` is valid for the call to write to.
    let code = unsafe { libc::statvfs(path.as_ptr(), &raw mut answer) };
    (code == 0).then(|| answer.f_bavail.saturating_mul(answer.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_removes_collections_neither_active_nor_building() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = IndexFolder::open(folder.path()).unwrap();
        for name in ["a", "b", "c"] {
            home.create(name).unwrap();
        }
        home.activate("a").unwrap();
        home.create("d").unwrap();
        drop(home);
        let home = IndexFolder::open(folder.path()).unwrap();
        assert_eq!(home.current(), Some("a"));
        assert!(home.contains("d") && !home.contains("b"));
        assert!(folder.path().join("d").is_dir() && !folder.path().join("b").exists());
    }

    #[test]
    fn open_of_a_locked_folder_names_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let home = IndexFolder::open(folder.path()).unwrap();
        let refused = IndexFolder::open(folder.path()).unwrap_err().to_string();
        let number = format!("(process {})", std::process::id());
        assert!(refused.contains(&number), "{refused}");
        let lock = home.lock();
        drop(home);
        // A clone of the lock is still in use.
        assert!(IndexFolder::open(folder.path()).is_err());
        drop(lock);
        assert!(IndexFolder::open(folder.path()).is_ok());
    }

    #[test]
    fn set_aside_removes_collection_and_keeps_it_until_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = IndexFolder::open(folder.path()).unwrap();
        home.create("a").unwrap();
        home.activate("a").unwrap();
        home.set_aside("a").unwrap();
        assert!(!home.contains("a") && home.current().is_none());
        drop(home);
        let mut home = IndexFolder::open(folder.path()).unwrap();
        assert!(folder.path().join(DAMAGED).is_dir());
        home.create("b").unwrap();
        home.activate("b").unwrap();
        assert!(!folder.path().join(DAMAGED).exists());
    }

    #[test]
    fn create_rejects_names_outside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = IndexFolder::open(folder.path()).unwrap();
        for name in ["", "..", "a/b", "lock", "damaged", "/etc", ".hidden"] {
            assert!(home.create(name).is_err(), "{name:?}");
        }
        assert!(free_bytes(folder.path()).unwrap() > 0);
    }
}
