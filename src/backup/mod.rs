//! The file of a backup: a tar archive, compressed by zstd, that `tar --zstd -xf` opens, too.
//!
//! Its first member says what it is ([`Head`]), its last what all others are ([`Digest`]): a file without that was cut short.
//! In between, `<part>/<file>` is a file of a [`Part`]. It is written beside its place and moved there when it is on the disk,
//! and nothing is taken out of it before all of it was read once and compared with the digests.

mod digest;
mod folder;
mod head;
mod place;
mod reader;
mod writer;

use std::io;
use std::path::{Component, Path, PathBuf};

pub use digest::{Digest, Digests, Hashing};
pub use folder::{Stamps, files_below};
pub use head::{DatabaseHead, FORMAT, Head, Part};
pub use place::{NewFolders, Place};
pub use reader::{Archive, Checked, Member};
pub use writer::{BackupWriter, Finished};

/// The name of the first member.
const HEAD: &str = "plantlake-backup.json";
/// The name of the last one.
const DIGESTS: &str = "digests.json";

/// Why a backup cannot be written, or read, or put in its place.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refuses.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// `read`, `written`, ….
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a backup that `plantlake backup` made", .0.display())]
    NotABackup(PathBuf),
    /// It is of a later form.
    #[error("the backup {} was made by plantlake {program}, in a form ({format}) that this version does not know; restore it with that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number of its form.
        format: u64,
        /// The version that made it.
        program: String,
    },
    /// Something of it is not as it was written.
    #[error("the backup {} is damaged or was cut short: {problem}. Nothing of it was used; take another", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is a file already, of another kind.
    #[error("{} is there already, and is no backup that can be read: it is left as it is. Name another file", .0.display())]
    Occupied(PathBuf),
    /// A file became another while it was copied.
    #[error("{} changed while it was copied; run the backup again", .0.display())]
    Changed(PathBuf),
    /// A file cannot have its name in an archive.
    #[error("the file name {name:?} cannot be in a backup: {problem}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl BackupError {
    /// `path` could not be `action`.
    pub fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path: path.clone(),
            source,
        }
    }
}

/// Whether `name` is that of a member: a relative path that stays where it begins.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 4_096 {
        return Err("it is empty or too long");
    }
    if name.split('/').any(|part| part.starts_with('.')) {
        return Err("it is hidden, or leads elsewhere");
    }
    if name.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let stays = |part: Component| matches!(part, Component::Normal(_));
    let parts = name.split('/').count();
    let found = Path::new(name).components();
    // `a/./b` and `a//b` are read as having fewer.
    match found.clone().count() == parts && found.clone().all(stays) {
        true => Ok(()),
        false => Err("it leads elsewhere"),
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Waits until the names in a folder are on the disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
