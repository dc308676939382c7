//! Reads a backup: first the whole archive, to compare it with its digests, and then its members.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::digest::{Digest, DigestHasher, Digests};
use super::error::BackupError;
use super::header::{BackupHeader, FORMAT, Part};
use super::member_names::{DIGESTS_FILE, HEADER_FILE, check_name};

/// The size of the read buffer in bytes.
const BUFFER_BYTES: usize = 1 << 18;
/// The magic number of a zstd frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The maximum size of a member that is read into memory, in bytes.
const MAX_MEMBER_BYTES: u64 = 1 << 30;

type Decompressed = zstd::Decoder<'static, BufReader<File>>;

/// An open backup whose header has been read.
pub struct Archive {
    path: PathBuf,
    file: File,
    head: BackupHeader,
}

/// A backup that has been read completely and matches its digests.
pub struct VerifiedBackup {
    archive: Archive,
    digests: Digests,
}

/// A member of a backup, ready to be read.
pub struct Member<'a> {
    /// Its name.
    pub name: String,
    path: &'a Path,
    content: tar::Entry<'a, Decompressed>,
}

impl Archive {
    /// Opens a backup and reads its header.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(BackupError::io("read", path))?;
        let not_one = || BackupError::NotABackup(path.to_owned());
        if !is_compressed(path, &file)? {
            return Err(not_one());
        }
        let mut tar = decompress(path, &file)?;
        let damaged = |error: io::Error| BackupError::Damaged {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let mut members = tar.entries().map_err(damaged)?;
        let first = members.next().ok_or_else(not_one)?;
        let first = Member::new(path, first.map_err(damaged)?)?;
        if first.name != HEADER_FILE {
            return Err(not_one());
        }
        let head = head(path, &first.read_all()?.0)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            head,
        })
    }

    /// Whether the file at `path` is a backup, in any version of the format.
    pub fn is_backup(path: &Path) -> Result<bool, BackupError> {
        match Self::open(path) {
            Ok(_) | Err(BackupError::FormatTooNew { .. }) => Ok(true),
            Err(BackupError::NotABackup(_) | BackupError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the header.
    pub fn header(&self) -> &BackupHeader {
        &self.head
    }

    /// Returns the size of the file in bytes.
    pub fn size(&self) -> Result<u64, BackupError> {
        let about = self.file.metadata();
        Ok(about.map_err(BackupError::io("read", &self.path))?.len())
    }

    /// Reads the whole archive and compares it with its digests.
    pub fn verify(self) -> Result<VerifiedBackup, BackupError> {
        let damaged = |problem: String| BackupError::Damaged {
            path: self.path.clone(),
            problem,
        };
        let mut tar = decompress(&self.path, &self.file)?;
        let mut found = Digests::new();
        let mut recorded: Option<Digests> = None;
        for entry in tar.entries().map_err(|error| damaged(error.to_string()))? {
            let entry = entry.map_err(|error| damaged(error.to_string()))?;
            let member = Member::new(&self.path, entry)?;
            let name = member.name.clone();
            if recorded.is_some() {
                return Err(damaged(format!("{name} follows the last member")));
            }
            if name == DIGESTS_FILE {
                let (bytes, _) = member.read_all()?;
                let read = serde_json::from_slice(&bytes);
                recorded = Some(read.map_err(|error| damaged(format!("{name}: {error}")))?);
                continue;
            }
            if found.is_empty() != (name == HEADER_FILE) {
                return Err(damaged(format!("{name} is at the wrong position")));
            }
            if name != HEADER_FILE && Part::split_member(&name).is_none() {
                return Err(damaged(format!("{name} belongs to no known part")));
            }
            let digest = member.for_each_chunk(|_| Ok(()))?;
            if found.insert(name.clone(), digest).is_some() {
                return Err(damaged(format!("{name} occurs twice")));
            }
        }
        // The compressed stream ends with a checksum of its own, which is verified when the end is read.
        io::copy(&mut tar.into_inner(), &mut io::sink())
            .map_err(|error| damaged(error.to_string()))?;
        let recorded = recorded.ok_or_else(|| damaged("its end is missing".to_owned()))?;
        for (name, digest) in &recorded {
            match found.get(name) {
                Some(found) if found == digest => {}
                Some(_) => return Err(damaged(format!("{name} does not match its digest"))),
                None => return Err(damaged(format!("{name} is missing"))),
            }
        }
        if let Some(name) = found.keys().find(|name| !recorded.contains_key(*name)) {
            return Err(damaged(format!("{name} has no digest")));
        }
        Ok(VerifiedBackup {
            digests: recorded,
            archive: self,
        })
    }
}

impl VerifiedBackup {
    /// Returns the header.
    pub fn header(&self) -> &BackupHeader {
        self.archive.header()
    }

    /// Returns the digests of the members.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Returns the digests of the files of a part, by their paths within the part.
    pub fn files_of(&self, part: Part) -> Digests {
        let files = self.digests.iter().filter_map(|(member, digest)| {
            let (of, file) = Part::split_member(member)?;
            (of == part).then(|| (file.to_owned(), digest.clone()))
        });
        files.collect()
    }

    /// Starts to read the members.
    pub fn contents(&self) -> Result<Contents<'_>, BackupError> {
        Ok(Contents {
            checked: self,
            tar: decompress(&self.archive.path, &self.archive.file)?,
        })
    }

    /// Returns all bytes of a member, after comparing them with the digest read before.
    pub fn read_verified(&self, member: Member<'_>) -> Result<Vec<u8>, BackupError> {
        let name = member.name.clone();
        let (bytes, digest) = member.read_all()?;
        self.check_digest(&name, &digest)?;
        Ok(bytes)
    }

    /// Checks that the digest of a member equals the one read before.
    pub fn check_digest(&self, member: &str, digest: &Digest) -> Result<(), BackupError> {
        match self.digests.get(member) == Some(digest) {
            true => Ok(()),
            false => Err(self.damaged(format!("{member} changed while it was read"))),
        }
    }

    fn damaged(&self, problem: String) -> BackupError {
        BackupError::Damaged {
            path: self.archive.path.clone(),
            problem,
        }
    }
}

/// The members of a checked backup.
pub struct Contents<'a> {
    checked: &'a VerifiedBackup,
    tar: tar::Archive<Decompressed>,
}

impl Contents<'_> {
    /// Returns the members in the order of the archive.
    pub fn members(
        &mut self,
    ) -> Result<impl Iterator<Item = Result<Member<'_>, BackupError>>, BackupError> {
        let checked = self.checked;
        let damaged = |error: io::Error| checked.damaged(error.to_string());
        let entries = self.tar.entries().map_err(damaged)?;
        Ok(entries.map(move |entry| Member::new(&checked.archive.path, entry.map_err(damaged)?)))
    }
}

impl<'a> Member<'a> {
    fn new(path: &'a Path, content: tar::Entry<'a, Decompressed>) -> Result<Self, BackupError> {
        let damaged = |problem: String| BackupError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let name = String::from_utf8_lossy(&content.path_bytes()).into_owned();
        check_name(&name)
            .map_err(|problem| damaged(format!("invalid name {name:?}: {problem}")))?;
        if content.header().entry_type() != tar::EntryType::Regular {
            return Err(damaged(format!("{name} is not a file")));
        }
        Ok(Self {
            name,
            path,
            content,
        })
    }

    /// Passes the bytes to `take` piece by piece, and returns their digest.
    pub fn for_each_chunk(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), BackupError>,
    ) -> Result<Digest, BackupError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut hashing = DigestHasher::default();
        loop {
            let read = match self.content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.damaged(error.to_string())),
            };
            hashing.update(read);
            take(read)?;
        }
        Ok(hashing.finish())
    }

    /// Returns all bytes, at most 1 GiB, and their digest.
    pub fn read_all(self) -> Result<(Vec<u8>, Digest), BackupError> {
        if self.content.size() > MAX_MEMBER_BYTES {
            return Err(self.damaged("it is larger than 1 GiB".to_owned()));
        }
        let mut bytes = Vec::new();
        let digest = self.for_each_chunk(|read| {
            bytes.extend_from_slice(read);
            Ok(())
        })?;
        Ok((bytes, digest))
    }

    fn damaged(&self, problem: String) -> BackupError {
        BackupError::Damaged {
            path: self.path.to_owned(),
            problem: format!("{}: {problem}", self.name),
        }
    }
}

/// Whether a file starts with the magic number of zstd.
fn is_compressed(path: &Path, file: &File) -> Result<bool, BackupError> {
    let mut begin = [0; MAGIC.len()];
    let mut file = file;
    match file.rewind().and_then(|()| file.read_exact(&mut begin)) {
        Ok(()) => Ok(begin == MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(BackupError::io("read", path)(error)),
    }
}

/// Returns a reader of the archive in a file, from its beginning.
fn decompress(path: &Path, file: &File) -> Result<tar::Archive<Decompressed>, BackupError> {
    let failed = BackupError::io("read", path);
    let mut file = file.try_clone().map_err(&failed)?;
    file.rewind().map_err(&failed)?;
    Ok(tar::Archive::new(zstd::Decoder::new(file).map_err(failed)?))
}

fn head(path: &Path, bytes: &[u8]) -> Result<BackupHeader, BackupError> {
    let damaged = |error: serde_json::Error| BackupError::Damaged {
        path: path.to_owned(),
        problem: format!("{HEADER_FILE}: {error}"),
    };
    // Later versions of the format have these fields; their other fields are unknown.
    let json: Json = serde_json::from_slice(bytes).map_err(damaged)?;
    let format = json["format"].as_u64().unwrap_or_default();
    if format > FORMAT {
        return Err(BackupError::FormatTooNew {
            path: path.to_owned(),
            format,
            program: json["program"]
                .as_str()
                .unwrap_or("of a later version")
                .to_owned(),
        });
    }
    serde_json::from_value(json).map_err(damaged)
}
