//! The folder of the index in this process: who has it, which collections are in it, and which is in force.
//!
//! | name | what it is |
//! |---|---|
//! | `lock` | locked by the process that has the index; says which one |
//! | `current` | names the collection in force |
//! | `building` | names those in the making, one a line: a run that was interrupted goes on with them |
//! | `damaged/` | a collection that could not be read, until there is another |
//! | `<collection>/` | a shard of Qdrant's |

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::search::index::IndexError;

const LOCK: &str = "lock";
const CURRENT: &str = "current";
const BUILDING: &str = "building";
const DAMAGED: &str = "damaged";

/// Files are mapped into memory: a page that the disk has no room for would end the process when it is written to.
/// So nothing is begun unless there is this much, which is more than new files take at once.
pub(super) const LEAST_ROOM: u64 = 192 << 20;
/// And nothing is opened or removed: that writes little, but it writes.
pub(super) const LITTLE_ROOM: u64 = 48 << 20;

/// Keeps other processes out as long as anybody has it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The folder, for the process that has it.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    current: Option<String>,
    building: Vec<String>,
    lock: Arc<Lock>,
}

/// An error of the index in `folder`.
pub(super) fn failed(folder: &Path, problem: impl std::fmt::Display) -> IndexError {
    IndexError::Local {
        folder: folder.display().to_string(),
        problem: problem.to_string(),
    }
}

impl Home {
    /// Takes the folder, unless another process has it, and removes what an earlier one left over.
    pub fn take(folder: &Path) -> Result<Self, IndexError> {
        let wrong = |error| failed(folder, error);
        fs::create_dir_all(folder).map_err(wrong)?;
        // Before anything of it is read: Qdrant repairs what it reads, and would do so in another's hands.
        let lock = lock(folder)?;
        // One that is damaged names nothing that is there.
        let line = |name: &str| match fs::read(folder.join(name)) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(wrong(error)),
        };
        let is_there =
            |name: &String| check(folder, name).is_ok() && folder.join(name.as_str()).is_dir();
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
        home.tidy_up(|_| false).map_err(wrong)?;
        Ok(home)
    }

    /// Removes collections that are neither in force, nor in the making, nor in use.
    pub fn tidy_up(&self, is_in_use: impl Fn(&str) -> bool) -> io::Result<()> {
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

    /// What keeps others out.
    pub fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }

    /// The collection in force.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// A collection's folder, whether it is there or not.
    pub fn path(&self, collection: &str) -> Result<PathBuf, IndexError> {
        check(&self.folder, collection)?;
        Ok(self.folder.join(collection))
    }

    /// Whether there is such a collection.
    pub fn has(&self, collection: &str) -> bool {
        self.current() == Some(collection) || self.building.iter().any(|name| name == collection)
    }

    /// Makes the folder of a new collection.
    pub fn begin(&mut self, collection: &str) -> Result<(), IndexError> {
        let path = self.path(collection)?;
        room(&self.folder, LEAST_ROOM)?;
        let mut building = self.building.clone();
        building.push(collection.to_owned());
        write(&self.folder, BUILDING, &building.join("\n"))?;
        fs::create_dir_all(path).map_err(|error| failed(&self.folder, error))?;
        self.building = building;
        Ok(())
    }

    /// Puts a collection in force; all others are no more.
    pub fn put_in_force(&mut self, collection: &str) -> Result<(), IndexError> {
        write(&self.folder, CURRENT, collection)?;
        self.current = Some(collection.to_owned());
        write(&self.folder, BUILDING, "")?;
        self.building.clear();
        // There is another now; if this fails, the next one who takes the folder does not mind it either.
        let _ = fs::remove_dir_all(self.folder.join(DAMAGED));
        Ok(())
    }

    /// Sets a collection aside that cannot be read: it is not there any more.
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
    // For the message to whom it is refused; the lock itself does not depend on it.
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| write!(file, "{}", std::process::id()));
    written.map_err(wrong)?;
    Ok(Lock { _file: file })
}

/// Whether a collection may be called so: it names a folder.
fn check(folder: &Path, collection: &str) -> Result<(), IndexError> {
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
            format!("no collection can be called {collection:?}"),
        )),
    }
}

/// Writes a small file in one go, and so that it stays.
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

/// Makes stay what was created, renamed and removed in a folder.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Whether the disk has this much room.
pub(super) fn room(folder: &Path, least: u64) -> Result<(), IndexError> {
    match free(folder) {
        Some(free) if free < least => Err(failed(
            folder,
            format!(
                "the disk has only {} MiB left, and {} MiB are needed",
                free >> 20,
                least >> 20
            ),
        )),
        _ => Ok(()),
    }
}

/// How many bytes the disk has left, if it can be told.
#[cfg(unix)]
#[expect(
    unsafe_code,
    reason = "the system call that says how full a disk is, which fills in a structure"
)]
fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;

    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: a structure of numbers, of which all bits zero is one.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and the structure is there for the call to fill in.
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
    fn what_is_neither_in_force_nor_in_the_making_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::take(folder.path()).unwrap();
        for name in ["a", "b", "c"] {
            home.begin(name).unwrap();
        }
        home.put_in_force("a").unwrap();
        home.begin("d").unwrap();
        drop(home);
        let home = Home::take(folder.path()).unwrap();
        assert_eq!(home.current(), Some("a"));
        assert!(home.has("d") && !home.has("b"));
        assert!(folder.path().join("d").is_dir() && !folder.path().join("b").exists());
    }

    #[test]
    fn a_folder_has_one_holder_whose_number_the_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::take(folder.path()).unwrap();
        let refused = Home::take(folder.path()).unwrap_err().to_string();
        let number = format!("(process {})", std::process::id());
        assert!(refused.contains(&number), "{refused}");
        let lock = home.lock();
        drop(home);
        // Somebody still works in it.
        assert!(Home::take(folder.path()).is_err());
        drop(lock);
        assert!(Home::take(folder.path()).is_ok());
    }

    #[test]
    fn a_collection_that_is_set_aside_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::take(folder.path()).unwrap();
        home.begin("a").unwrap();
        home.put_in_force("a").unwrap();
        home.set_aside("a").unwrap();
        assert!(!home.has("a") && home.current().is_none());
        drop(home);
        let mut home = Home::take(folder.path()).unwrap();
        assert!(folder.path().join(DAMAGED).is_dir());
        home.begin("b").unwrap();
        home.put_in_force("b").unwrap();
        assert!(!folder.path().join(DAMAGED).exists());
    }

    #[test]
    fn no_collection_reaches_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::take(folder.path()).unwrap();
        for name in ["", "..", "a/b", "lock", "damaged", "/etc", ".hidden"] {
            assert!(home.begin(name).is_err(), "{name:?}");
        }
        assert!(free(folder.path()).unwrap() > 0);
    }
}
