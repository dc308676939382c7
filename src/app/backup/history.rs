//! Restores the log of runs to the history of a lake that has no runs yet.

use std::path::{Path, PathBuf};

use super::failure::BackupFailure;
use crate::backup::{Digest, Digests, NewFolders};
use crate::config::Settings;
use crate::lake::records::runs::Runs;
use crate::lake::{Store, StoreError as LakeError};

/// A lake whose history is to be restored.
pub(super) struct HistoryTarget {
    lake: String,
    /// The runs of the lake; `None` if the lake does not exist yet.
    runs: Option<Runs>,
    /// Whether the lake has runs, and thus a log of its own.
    has_runs: bool,
    /// The files of the history that exist.
    existing: Digests,
    /// The existing files that differ from the backup, or are not in it.
    conflicts: Vec<String>,
    /// The number of files in the backup.
    expected_files: usize,
    /// The files that this restore added.
    added: Vec<String>,
    /// The folder of the lake, if it is on this machine.
    folder: Option<PathBuf>,
    new: NewFolders,
}

impl HistoryTarget {
    /// Compares the history of the lake with the backup.
    pub async fn compare(settings: &Settings, wanted: &Digests) -> Result<Self, BackupFailure> {
        let options = settings.storage.options();
        let (lake, folder) = match Store::open_existing(&settings.lake, options) {
            Err(LakeError::Missing { path }) => (None, Some(path)),
            lake => {
                let lake = lake?;
                let folder = lake.local_path().map(Path::to_owned);
                (Some(lake), folder)
            }
        };
        let mut place = Self {
            lake: settings.lake.to_string(),
            runs: lake.as_ref().map(Runs::open),
            has_runs: false,
            existing: Digests::new(),
            conflicts: Vec::new(),
            expected_files: wanted.len(),
            added: Vec::new(),
            folder,
            new: NewFolders::default(),
        };
        if let Some(folder) = &place.folder {
            place.new = NewFolders::find_missing(folder);
        }
        let Some(runs) = &place.runs else {
            return Ok(place);
        };
        place.has_runs = runs.has_runs().await?;
        if place.has_runs {
            return Ok(place);
        }
        for file in runs.log_files().await? {
            let bytes = runs.log_file(&file).await?.unwrap_or_default();
            let digest = Digest::compute(&bytes);
            if wanted.get(&file) != Some(&digest) {
                place
                    .conflicts
                    .push(format!("{}/history/{file}", place.lake));
            }
            place.existing.insert(file, digest);
        }
        Ok(place)
    }

    /// Whether the lake has runs, and thus a log of its own, which is left as it is.
    pub fn has_runs(&self) -> bool {
        self.has_runs
    }

    /// Whether every file of the backup exists.
    pub fn is_done(&self) -> bool {
        self.existing.len() == self.expected_files
    }

    /// Returns the existing files that differ from the backup, or are not in it.
    pub fn conflicts(&self) -> &[String] {
        &self.conflicts
    }

    /// Adds a file to the history.
    pub async fn add(
        &mut self,
        settings: &Settings,
        file: &str,
        bytes: Vec<u8>,
    ) -> Result<(), BackupFailure> {
        if self.has_runs || self.existing.contains_key(file) {
            return Ok(());
        }
        let runs = match &self.runs {
            Some(runs) => runs.clone(),
            None => {
                let lake = Store::open(&settings.lake, settings.storage.options())?;
                self.runs.insert(Runs::open(&lake)).clone()
            }
        };
        // Recorded before the write, because the file may exist even if the store reports an error.
        self.added.push(file.to_owned());
        Ok(runs.add_history_file(file, bytes).await?)
    }

    /// Keeps the folders that were created.
    pub fn persist(mut self) {
        self.new.persist();
    }

    /// Removes the files that were added.
    pub async fn roll_back(self) {
        if let Some(runs) = &self.runs {
            for file in &self.added {
                // A file that cannot be removed equals the backup, so the next restore accepts it.
                let _ = runs.remove_history_file(file).await;
            }
        }
        if let (Some(folder), false) = (&self.folder, self.added.is_empty()) {
            remove_empty(&folder.join("history"));
        }
    }
}

/// Removes a folder and its subfolders, as far as they are empty.
fn remove_empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}
