//! Restores the files of a part to a folder that contains none of them, or only identical ones.
//!
//! Files are written to a hidden folder inside the destination, because the destination may be a separate disk. They
//! are moved to their names once all of them are on disk. After a kill in between, some files are in place; repeating
//! the restore adds the others.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::digest::{Digest, DigestHasher, Digests};
use super::error::BackupError;
use super::folder::{files_below, parent_folder, sync_folder};
use crate::clock::new_id;

/// The prefix of the hidden folder's name.
const STAGING_PREFIX: &str = ".restore-";

/// A folder to which files are restored. If it is dropped before [`commit`](Self::commit), the folder stays as it was.
pub struct RestoreFolder {
    folder: PathBuf,
    /// Whether only the owner may access the files.
    is_secret: bool,
    /// Files that do not exist yet.
    missing: BTreeSet<String>,
    /// Existing files that differ from the expected ones, or are not expected.
    conflicting_files: Vec<PathBuf>,
    staging: Option<PathBuf>,
    /// Folders that did not exist before.
    new: NewFolders,
}

/// Folders that did not exist before. Dropping this removes those that are empty.
#[derive(Debug, Default)]
pub struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    /// Returns `folder` and its parent folders, as far as they do not exist yet.
    pub fn find_missing(folder: &Path) -> Self {
        let ancestors = folder.ancestors();
        let missing = ancestors.take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        Self(missing.map(Path::to_owned).collect())
    }

    /// Creates `folder` and its missing parent folders, and waits until they are on disk.
    pub fn create(folder: &Path) -> std::io::Result<Self> {
        let new = Self::find_missing(folder);
        fs::create_dir_all(folder)?;
        for folder in &new.0 {
            sync_folder(parent_folder(folder))?;
        }
        Ok(new)
    }

    /// Keeps the folders when this is dropped.
    pub fn persist(&mut self) {
        self.0.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl RestoreFolder {
    /// Compares the files in `folder` with the expected ones.
    pub fn inspect(folder: &Path, is_secret: bool, wanted: &Digests) -> Result<Self, BackupError> {
        let mut missing: BTreeSet<String> = wanted.keys().cloned().collect();
        let mut in_the_way = Vec::new();
        for file in files_below(folder)? {
            let path = folder.join(&file);
            let is_same = match wanted.get(&file) {
                Some(digest) => hash_file(&path)? == *digest,
                None => false,
            };
            missing.remove(&file);
            if !is_same {
                in_the_way.push(path);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            is_secret,
            missing,
            conflicting_files: in_the_way,
            staging: None,
            new: NewFolders::find_missing(folder),
        })
    }

    /// Returns the existing files that differ from the expected ones, or are not expected.
    pub fn conflicting_files(&self) -> &[PathBuf] {
        &self.conflicting_files
    }

    /// Whether no file is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Creates the temporary file of `name`; returns `None` if the file exists at its destination.
    pub fn stage(&mut self, name: &str) -> Result<Option<StagedFile>, BackupError> {
        if !self.missing.contains(name) {
            return Ok(None);
        }
        let staging = match &self.staging {
            Some(staging) => staging.clone(),
            None => self.create_staging()?,
        };
        let path = staging.join(name);
        let failed = BackupError::io("write", &path);
        if let Some(folder) = path.parent() {
            self.builder().create(folder).map_err(&failed)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if self.is_secret {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let file = options.open(&path).map_err(failed)?;
        Ok(Some(StagedFile { file, path }))
    }

    /// Creates the folder, and the hidden folder in it.
    fn create_staging(&mut self) -> Result<PathBuf, BackupError> {
        self.builder()
            .create(&self.folder)
            .map_err(BackupError::io("create", &self.folder))?;
        remove_leftovers(&self.folder);
        let staging = self.folder.join(format!("{STAGING_PREFIX}{}", new_id()));
        self.builder()
            .create(&staging)
            .map_err(BackupError::io("create", &staging))?;
        self.staging = Some(staging.clone());
        Ok(staging)
    }

    fn builder(&self) -> DirBuilder {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        if self.is_secret {
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        }
        builder
    }

    /// Moves the staged files to their names, and calls `moved` after each.
    pub fn commit(mut self, mut moved: impl FnMut()) -> Result<(), BackupError> {
        let Some(staging) = self.staging.clone() else {
            // An attempt that was killed after its last move leaves only its hidden folder to remove.
            remove_leftovers(&self.folder);
            return Ok(());
        };
        // The name of a file is on disk once the folder that contains it is synced.
        let new = self
            .new
            .0
            .iter()
            .map(|folder| parent_folder(folder).to_owned());
        let mut folders: BTreeSet<PathBuf> = new.collect();
        for name in &self.missing {
            let path = self.folder.join(name);
            let failed = BackupError::io("write", &path);
            if let Some(folder) = path.parent() {
                self.builder().create(folder).map_err(&failed)?;
            }
            let within = path.ancestors().skip(1);
            let within = within.take_while(|folder| folder.starts_with(&self.folder));
            folders.extend(within.map(Path::to_owned));
            fs::rename(staging.join(name), &path).map_err(failed)?;
            moved();
        }
        self.new.persist();
        for folder in folders {
            sync_folder(&folder).map_err(BackupError::io("write", &folder))?;
        }
        Ok(())
    }
}

impl Drop for RestoreFolder {
    fn drop(&mut self) {
        if let Some(staging) = &self.staging {
            // A folder that cannot be removed now is removed by the next attempt.
            let _ = fs::remove_dir_all(staging);
        }
    }
}

/// Removes the hidden folders of attempts that were killed.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(STAGING_PREFIX)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A temporary file that is being written.
pub struct StagedFile {
    file: File,
    path: PathBuf,
}

impl StagedFile {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let written = self.file.write_all(bytes);
        written.map_err(BackupError::io("write", &self.path))
    }

    /// Waits until the file is on disk.
    pub fn finish(self) -> Result<(), BackupError> {
        let synced = self.file.sync_all();
        synced.map_err(BackupError::io("write", &self.path))
    }
}

fn hash_file(path: &Path) -> Result<Digest, BackupError> {
    let failed = BackupError::io("read", path);
    let mut file = File::open(path).map_err(&failed)?;
    let mut hashing = DigestHasher::default();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(&failed)? {
            0 => return Ok(hashing.finish()),
            read => hashing.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
