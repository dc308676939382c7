//! Writes a backup next to its destination, under a temporary name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use super::digest::{DigestHasher, Digests};
use super::error::BackupError;
use super::folder::{parent_folder, sync_folder};
use super::header::BackupHeader;
use super::member_names::{DIGESTS_FILE, HEADER_FILE, check_name};
use super::reader::Archive;
use crate::clock::new_id;

/// The name of a temporary file is that of the destination, this infix and an id.
const PARTIAL_INFIX: &str = ".partial-";
/// The compression level of zstd.
const COMPRESSION_LEVEL: i32 = 3;

type Compressed = zstd::Encoder<'static, BufWriter<File>>;

/// Writes a backup. If it is dropped before the backup is in place, it leaves no file.
pub struct BackupWriter {
    tar: tar::Builder<Compressed>,
    made_at: u64,
    digests: Digests,
    partial: PartialFile,
}

/// A backup that is on disk, but not at its destination yet.
pub struct FinishedBackup {
    partial: PartialFile,
    digests: Digests,
}

/// A file that is removed when this is dropped, unless it has been moved to its destination.
struct PartialFile {
    path: PathBuf,
    destination: PathBuf,
    /// The file, which stays locked while it is being written.
    lock: File,
    is_placed: bool,
}

impl BackupWriter {
    /// Starts a backup to `place`, where there must be no file or an older backup. An older backup stays until the new
    /// one replaces it.
    pub fn create(place: &Path, head: &BackupHeader) -> Result<Self, BackupError> {
        if place.exists() && !Archive::is_backup(place)? {
            return Err(BackupError::DestinationExists(place.to_owned()));
        }
        let partial = PartialFile::create(place)?;
        let failed = BackupError::io("write", place);
        let file = partial.lock.try_clone().map_err(&failed)?;
        let mut compressed =
            zstd::Encoder::new(BufWriter::with_capacity(1 << 20, file), COMPRESSION_LEVEL)
                .map_err(&failed)?;
        compressed.include_checksum(true).map_err(&failed)?;
        let mut writer = Self {
            tar: tar::Builder::new(compressed),
            made_at: head.made_at.timestamp().unsigned_abs(),
            digests: Digests::new(),
            partial,
        };
        writer.add(HEADER_FILE, &writer.json(head)?)?;
        Ok(writer)
    }

    /// Adds a member.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.append(name, bytes.len() as u64, bytes, Path::new(name))
    }

    /// Adds the file at `path` as the member `name`.
    pub fn add_file(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        let failed = BackupError::io("read", path);
        let file = File::open(path).map_err(&failed)?;
        let size = file.metadata().map_err(&failed)?.len();
        self.append(name, size, file, path)
    }

    fn append(
        &mut self,
        name: &str,
        size: u64,
        source: impl Read,
        path: &Path,
    ) -> Result<(), BackupError> {
        check_name(name).map_err(|problem| BackupError::Name {
            name: name.to_owned(),
            problem,
        })?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.made_at);
        let mut source = HashingReader {
            inner: source.take(size),
            hashing: DigestHasher::default(),
            failed: None,
        };
        let appended = self.tar.append_data(&mut header, name, &mut source);
        if let Some(error) = source.failed {
            return Err(BackupError::io("read", path)(error));
        }
        appended.map_err(BackupError::io("write", &self.partial.destination))?;
        let digest = source.hashing.finish();
        if digest.bytes != size {
            return Err(BackupError::Changed(path.to_owned()));
        }
        self.digests.insert(name.to_owned(), digest);
        Ok(())
    }

    /// Writes the last member, and waits until the file is on disk.
    pub fn finish(mut self) -> Result<FinishedBackup, BackupError> {
        let digests = self.json(&self.digests)?;
        let written = std::mem::take(&mut self.digests);
        self.add(DIGESTS_FILE, &digests)?;
        let failed = BackupError::io("write", &self.partial.destination);
        let compressed = self.tar.into_inner().map_err(&failed)?;
        let buffered = compressed.finish().map_err(&failed)?;
        let file = buffered
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .map_err(&failed)?;
        file.sync_all().map_err(&failed)?;
        Ok(FinishedBackup {
            partial: self.partial,
            digests: written,
        })
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<Vec<u8>, BackupError> {
        let json = serde_json::to_vec_pretty(value).map_err(io::Error::other);
        json.map_err(BackupError::io("write", &self.partial.destination))
    }
}

impl FinishedBackup {
    /// Moves the backup to its destination. Returns its size in bytes and the digests of its members.
    pub fn move_into_place(mut self) -> Result<(u64, Digests), BackupError> {
        let failed = BackupError::io("write", &self.partial.destination);
        let size = self.partial.lock.metadata().map_err(&failed)?.len();
        fs::rename(&self.partial.path, &self.partial.destination).map_err(&failed)?;
        self.partial.is_placed = true;
        sync_folder(parent_folder(&self.partial.destination)).map_err(&failed)?;
        Ok((size, self.digests))
    }
}

/// A reader that hashes its bytes, and stores read errors so that they are distinguished from write errors.
struct HashingReader<R> {
    inner: R,
    hashing: DigestHasher,
    failed: Option<io::Error>,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                self.hashing.update(buffer.get(..read).unwrap_or_default());
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

impl PartialFile {
    fn create(place: &Path) -> Result<Self, BackupError> {
        let failed = BackupError::io("write", place);
        let Some(name) = place.file_name() else {
            let problem = "the path has no file name";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, problem)));
        };
        let mut start = name.to_owned();
        start.push(PARTIAL_INFIX);
        remove_leftovers(parent_folder(place), &start.to_string_lossy());
        loop {
            let mut name = start.clone();
            name.push(new_id().to_string());
            let path = place.with_file_name(name);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            // The file contains hashes of passwords, and keys.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let partial = Self {
                lock: options.open(&path).map_err(&failed)?,
                path,
                destination: place.to_owned(),
                is_placed: false,
            };
            partial.lock.lock().map_err(&failed)?;
            // Before the file was locked, another backup may have removed it as a remnant of a killed one.
            if partial.path.exists() {
                return Ok(partial);
            }
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // A file that cannot be removed now is removed by the next backup to the same destination.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the files of backups that were killed: those that are not locked.
fn remove_leftovers(folder: &Path, start: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(start) {
            continue;
        }
        let is_locked = |file: File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if File::open(entry.path()).is_ok_and(|file| !is_locked(file)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
