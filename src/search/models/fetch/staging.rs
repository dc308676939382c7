//! That a model is in its place as a whole, or not at all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::search::models::files::{RECORD, Record};

/// What the names of folders begin with in which models are made.
const PREFIX: &str = ".fetch-";
/// One that is older was left by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder of this process alone, beside the models. It is gone with this.
pub(super) struct Staging {
    root: PathBuf,
}

impl Staging {
    /// A fresh one in the folder of models.
    pub fn new(models: &Path) -> Result<Self, String> {
        sweep(models);
        let root = models.join(format!("{PREFIX}{}", clock::new_id()));
        let staging = Self { root };
        for folder in [staging.model(), staging.scratch()] {
            fs::create_dir_all(&folder)
                .map_err(|error| format!("{} cannot be made ({error})", folder.display()))?;
        }
        Ok(staging)
    }

    /// Where the model's files go.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// For whatever is needed meanwhile.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Moves the model to its place; false if there is something by now, unless that is to be replaced.
    pub fn place(&self, folder: &Path, replaces: bool) -> Result<bool, String> {
        let failed = |error| format!("{} cannot be written ({error})", folder.display());
        to_disk(&self.model()).map_err(failed)?;
        let parent = folder.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(failed)?;
        if replaces {
            match fs::rename(folder, self.root.join("replaced")) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        // A folder that is not empty is never replaced by this.
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
        // What cannot be removed now is swept up another day.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Removes what processes left that were killed.
fn sweep(models: &Path) {
    for entry in fs::read_dir(models).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let age = entry.metadata().and_then(|about| about.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        if is_staging && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes down what a model's files are.
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
        format!("{} cannot be written ({error})", path.display())
    })
}

/// Waits until the files in a folder would survive a power cut.
fn to_disk(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            to_disk(&path)?;
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
    fn the_first_is_in_place_and_others_are_gone() {
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
