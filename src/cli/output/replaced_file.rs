//! A file that is written beside its target and replaces it when it is complete, so that a command that fails or is killed
//! leaves the former file as it was.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The number of names that are tried for the unfinished file.
const MAX_NAMES: u32 = 100;
/// The size of the buffer before the file, in bytes.
const BUFFER_BYTES: usize = 1 << 16;

/// A file that is being written. Without [`ReplacedFile::finish`], the target stays as it was.
#[derive(Debug)]
pub struct ReplacedFile {
    file: BufWriter<File>,
    /// The file beside the target; `None` if the target is a device or a pipe, which is written directly.
    unfinished: Option<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    target: PathBuf,
    /// Whether the content is copied into the target at the end, because a new file could not have its place, owner or
    /// links.
    is_copied: bool,
}

impl ReplacedFile {
    /// Creates a file that will replace `path`. Symbolic links are followed, and the permissions of an existing file are
    /// kept.
    ///
    /// # Errors
    /// Fails if the target cannot be written, or nothing can be created in its folder.
    pub fn create(path: &Path) -> io::Result<Self> {
        let target = resolve(path)?;
        let existing = match std::fs::metadata(&target) {
            Ok(about) => Some(about),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(about) = &existing {
            // A rename would replace a file that may not be written.
            let former = File::options().write(true).open(&target)?;
            if !about.is_file() {
                return Ok(Self {
                    file: BufWriter::with_capacity(BUFFER_BYTES, former),
                    unfinished: None,
                });
            }
        }
        let folder = target.parent().filter(|folder| *folder != Path::new(""));
        let is_private = existing.is_some();
        let created = create_in(folder.unwrap_or(Path::new(".")), is_private);
        let (file, path, is_beside) = match (created, &existing) {
            (Ok((file, path)), _) => (file, path, true),
            // Only the file itself may be written.
            (Err(_), Some(_)) => {
                let (file, path) = create_in(&std::env::temp_dir(), true)?;
                (file, path, false)
            }
            (Err(error), None) => return Err(error),
        };
        // From here on, the new file is removed if anything fails.
        let mut created = Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            unfinished: Some(Unfinished {
                path,
                target,
                is_copied: !is_beside,
            }),
        };
        if let (Some(about), Some(unfinished)) = (existing, &mut created.unfinished) {
            let file = created.file.get_ref();
            unfinished.is_copied |= !has_owner_of(file, &about);
            if !unfinished.is_copied {
                file.set_permissions(about.permissions())?;
            }
        }
        Ok(created)
    }

    /// Writes everything to disk, and replaces the target.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let Some(unfinished) = &self.unfinished else {
            return Ok(());
        };
        let (path, target) = (&unfinished.path, &unfinished.target);
        if unfinished.is_copied {
            return copy_into(path, target);
        }
        self.file.get_ref().sync_all()?;
        match std::fs::rename(path, target) {
            Ok(()) => self.unfinished = None,
            // A file that is mounted by itself cannot be replaced.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => copy_into(path, target)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Write for ReplacedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for ReplacedFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            let _ = std::fs::remove_file(&unfinished.path);
        }
    }
}

/// Returns the path behind symbolic links, also of a link whose target does not exist yet.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(link) => Ok(path.parent().unwrap_or(Path::new("")).join(link)),
            Err(_) => Ok(path.to_owned()),
        },
        resolved => resolved,
    }
}

/// Replaces the content of `target` by that of the file `path`.
fn copy_into(path: &Path, target: &Path) -> io::Result<()> {
    let mut from = File::open(path)?;
    let mut into = File::options().write(true).truncate(true).open(target)?;
    io::copy(&mut from, &mut into)?;
    into.sync_all()
}

/// Creates a new file in `folder`. If it is private, only its owner may read it.
fn create_in(folder: &Path, is_private: bool) -> io::Result<(File, PathBuf)> {
    let mut options = File::options();
    options.write(true).create_new(true);
    // The permissions of the target follow before anything is written.
    #[cfg(unix)]
    if is_private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let process = std::process::id();
    for number in 0..MAX_NAMES {
        let path = folder.join(format!(".plantlake-{process}-{number}.unfinished"));
        match options.open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Gives `file` the owner of the file that `about` describes. Returns `false` if that is not possible, or if that file has
/// further names, which a new file would not have.
#[cfg(unix)]
fn has_owner_of(file: &File, about: &Metadata) -> bool {
    use std::os::unix::fs::{MetadataExt, fchown};
    let owner = |about: &Metadata| (about.uid(), about.gid());
    let is_owner = file
        .metadata()
        .is_ok_and(|created| owner(&created) == owner(about));
    about.nlink() == 1 && (is_owner || fchown(file, Some(about.uid()), Some(about.gid())).is_ok())
}

#[cfg(not(unix))]
fn has_owner_of(_: &File, _: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn unfinished_file_leaves_target_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer.csv");
        for former in [None, Some("former")] {
            if let Some(former) = former {
                std::fs::write(&path, former).unwrap();
            }
            let mut file = ReplacedFile::create(&path).unwrap();
            file.write_all(b"half").unwrap();
            file.flush().unwrap();
            drop(file);
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), former);
            assert_eq!(names(folder.path()).len(), usize::from(former.is_some()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn finished_file_keeps_permissions_and_links() {
        use std::fs::Permissions;
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "a longer former text").unwrap();
        std::fs::set_permissions(at("plain"), Permissions::from_mode(0o640)).unwrap();
        std::fs::write(at("first"), "a longer former text").unwrap();
        std::fs::hard_link(at("first"), at("second")).unwrap();
        symlink("plain", at("link")).unwrap();
        symlink("absent", at("dangling")).unwrap();
        for (written, read) in [
            ("link", "plain"),
            ("first", "second"),
            ("dangling", "absent"),
        ] {
            let mut file = ReplacedFile::create(&at(written)).unwrap();
            file.write_all(b"new").unwrap();
            file.finish().unwrap();
            assert_eq!(
                std::fs::read_to_string(at(read)).unwrap(),
                "new",
                "{written}"
            );
        }
        let mode = std::fs::metadata(at("plain")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let expected = ["absent", "dangling", "first", "link", "plain", "second"];
        assert_eq!(names(folder.path()), expected);
        assert!(std::fs::symlink_metadata(at("link")).unwrap().is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn device_is_written_directly() {
        let mut file = ReplacedFile::create(Path::new("/dev/null")).unwrap();
        file.write_all(b"x").unwrap();
        file.finish().unwrap();
    }
}
