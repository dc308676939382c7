//! Atomic placement of a model: it is in its folder as a whole or not at all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::search::models::files::{RECORD, Record};

/// The prefix of the names of staging folders.
const PREFIX: &str = ".fetch-";
/// The age at which a staging folder counts as left behind by a killed process.
const MAX_STAGING_AGE: Duration = Duration::from_secs(24 * 3600);

/// A staging folder of this process, next to the models. It is removed on drop.
pub(super) struct Staging {
    root: PathBuf,
}

impl Staging {
    /// Creates a staging folder in the folder of models.
    pub fn new(models: &Path) -> Result<Self, String> {
        remove_abandoned(models);
        let root = models.join(format!("{PREFIX}{}", clock::new_id()));
        let staging = Self { root };
        for folder in [staging.model(), staging.scratch()] {
            fs::create_dir_all(&folder)
                .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        }
        Ok(staging)
    }

    /// Returns the folder for the model's files.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// Returns the folder for temporary files.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Moves the model into place. Returns false if another process has filled `folder`. With `replaces`, an existing
    /// folder is moved away first.
    pub fn place(&self, folder: &Path, replaces: bool) -> Result<bool, String> {
        let failed = |error| format!("cannot write {}: {error}", folder.display());
        sync_tree(&self.model()).map_err(failed)?;
        let parent = folder.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(failed)?;
        if replaces {
            match fs::rename(folder, self.root.join("replaced")) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        // A rename never replaces a folder that is not empty.
        match fs::rename(self.model(), folder) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(failed(error)),
        }
        sync_folder(parent).map_err(failed)?;
        Ok(true)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A later sweep removes what cannot be removed now.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Removes the staging folders of killed processes.
fn remove_abandoned(models: &Path) {
    for entry in fs::read_dir(models).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = entry.metadata().and_then(|about| about.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        if is_staging && age.is_some_and(|age| age > MAX_STAGING_AGE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes the record of a model's files.
pub(super) fn write_record(folder: &Path, record: &Record) -> Result<(), String> {
    let path = folder.join(RECORD);
    let beside = folder.join(format!("{RECORD}.{}", clock::new_id()));
    let write = || {
        let text = serde_json::to_vec_pretty(record)?;
        fs::write(&beside, text)?;
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &path)?;
        sync_folder(folder)
    };
    write().map_err(|error: std::io::Error| {
        let _ = fs::remove_file(&beside);
        format!("cannot write {}: {error}", path.display())
    })
}

/// Syncs the files in a folder to disk, so that they survive a power failure.
fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(models: &Path, content: &str) -> Staging {
        let staging = Staging::new(models).unwrap();
        fs::write(staging.model().join("a"), content).unwrap();
        staging
    }

    #[test]
    fn place_keeps_the_first_model_unless_replacing() {
        let models = tempfile::tempdir().unwrap();
        let place = models.path().join("org/name");
        let (one, other) = (staged(models.path(), "1"), staged(models.path(), "2"));
        assert!(one.place(&place, false).unwrap());
        assert!(!other.place(&place, false).unwrap());
        drop((one, other));
        assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "1");
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 1);
        let third = staged(models.path(), "3");
        assert!(third.place(&place, true).unwrap());
        drop(third);
        assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "3");
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 1);
    }
}
