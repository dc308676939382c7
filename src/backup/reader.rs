//! A backup while it is read: as a whole first, to compare it with what it says of itself, and then for its members.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::digest::{Digest, Digests, Hashing};
use super::{BackupError, DIGESTS, FORMAT, HEAD, Head, Part, check_name};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;
/// How a file begins that zstd made.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The most that is taken into memory of one member.
const MOST: u64 = 1 << 30;

type Decompressed = zstd::Decoder<'static, BufReader<File>>;

/// The file of a backup.
pub struct Archive {
    path: PathBuf,
    file: File,
    head: Head,
}

/// A backup that was read as a whole, and is as it was written.
pub struct Checked {
    archive: Archive,
    digests: Digests,
}

/// A member while it is read.
pub struct Member<'a> {
    /// Its name.
    pub name: String,
    path: &'a Path,
    content: tar::Entry<'a, Decompressed>,
}

impl Archive {
    /// Opens a backup, and reads what it is.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(BackupError::io("read", path))?;
        let not_one = || BackupError::NotABackup(path.to_owned());
        if !is_compressed(path, &file)? {
            return Err(not_one());
        }
        let mut tar = unpacked(path, &file)?;
        let damaged = |error: io::Error| BackupError::Damaged {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let mut members = tar.entries().map_err(damaged)?;
        let first = members.next().ok_or_else(not_one)?;
        let first = Member::new(path, first.map_err(damaged)?)?;
        if first.name != HEAD {
            return Err(not_one());
        }
        let head = head(path, &first.bytes()?.0)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            head,
        })
    }

    /// Whether the file at `path` is a backup, of whatever form.
    pub fn is_one(path: &Path) -> Result<bool, BackupError> {
        match Self::open(path) {
            Ok(_) | Err(BackupError::Newer { .. }) => Ok(true),
            Err(BackupError::NotABackup(_) | BackupError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What it says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<u64, BackupError> {
        let about = self.file.metadata();
        Ok(about.map_err(BackupError::io("read", &self.path))?.len())
    }

    /// Reads all of it, and compares it with its digests.
    pub fn check(self) -> Result<Checked, BackupError> {
        let damaged = |problem: String| BackupError::Damaged {
            path: self.path.clone(),
            problem,
        };
        let mut tar = unpacked(&self.path, &self.file)?;
        let mut found = Digests::new();
        let mut said: Option<Digests> = None;
        for entry in tar.entries().map_err(|error| damaged(error.to_string()))? {
            let entry = entry.map_err(|error| damaged(error.to_string()))?;
            let member = Member::new(&self.path, entry)?;
            let name = member.name.clone();
            if said.is_some() {
                return Err(damaged(format!("{name} comes after the end")));
            }
            if name == DIGESTS {
                let (bytes, _) = member.bytes()?;
                let read = serde_json::from_slice(&bytes);
                said = Some(read.map_err(|error| damaged(format!("{name}: {error}")))?);
                continue;
            }
            if found.is_empty() != (name == HEAD) {
                return Err(damaged(format!("{name} is not in its place")));
            }
            if name != HEAD && Part::of_member(&name).is_none() {
                return Err(damaged(format!("{name} is of no part that is known")));
            }
            let digest = member.each(|_| Ok(()))?;
            if found.insert(name.clone(), digest).is_some() {
                return Err(damaged(format!("{name} is there twice")));
            }
        }
        // The end of what was compressed has a checksum of its own.
        io::copy(&mut tar.into_inner(), &mut io::sink())
            .map_err(|error| damaged(error.to_string()))?;
        let said = said.ok_or_else(|| damaged("its end is missing".to_owned()))?;
        for (name, digest) in &said {
            match found.get(name) {
                Some(found) if found == digest => {}
                Some(_) => return Err(damaged(format!("{name} is not what was written"))),
                None => return Err(damaged(format!("{name} is missing"))),
            }
        }
        if let Some(name) = found.keys().find(|name| !said.contains_key(*name)) {
            return Err(damaged(format!("{name} was added later")));
        }
        Ok(Checked {
            digests: said,
            archive: self,
        })
    }
}

impl Checked {
    /// What it says of itself.
    pub fn head(&self) -> &Head {
        self.archive.head()
    }

    /// What its members are.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// What the files of a part are, by their paths in it.
    pub fn files_of(&self, part: Part) -> Digests {
        let files = self.digests.iter().filter_map(|(member, digest)| {
            let (of, file) = Part::of_member(member)?;
            (of == part).then(|| (file.to_owned(), digest.clone()))
        });
        files.collect()
    }

    /// Begins to read the members.
    pub fn contents(&self) -> Result<Contents<'_>, BackupError> {
        Ok(Contents {
            checked: self,
            tar: unpacked(&self.archive.path, &self.archive.file)?,
        })
    }

    /// All bytes of a member, if they are what was read before.
    pub fn bytes_of(&self, member: Member<'_>) -> Result<Vec<u8>, BackupError> {
        let name = member.name.clone();
        let (bytes, digest) = member.bytes()?;
        self.compare(&name, &digest)?;
        Ok(bytes)
    }

    /// Makes sure that the bytes of a member are what was read before.
    pub fn compare(&self, member: &str, digest: &Digest) -> Result<(), BackupError> {
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

/// What is in a backup.
pub struct Contents<'a> {
    checked: &'a Checked,
    tar: tar::Archive<Decompressed>,
}

impl Contents<'_> {
    /// The members, in their order.
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
        check_name(&name).map_err(|problem| damaged(format!("the name {name:?}: {problem}")))?;
        if content.header().entry_type() != tar::EntryType::Regular {
            return Err(damaged(format!("{name} is not a file")));
        }
        Ok(Self {
            name,
            path,
            content,
        })
    }

    /// Hands over the bytes piece by piece; what they are, all together.
    pub fn each(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), BackupError>,
    ) -> Result<Digest, BackupError> {
        let mut buffer = vec![0; BUFFER];
        let mut hashing = Hashing::default();
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

    /// All bytes at once, and what they are.
    pub fn bytes(self) -> Result<(Vec<u8>, Digest), BackupError> {
        if self.content.size() > MOST {
            return Err(self.damaged("it is too large".to_owned()));
        }
        let mut bytes = Vec::new();
        let digest = self.each(|read| {
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

/// Whether a file begins as those do that zstd made.
fn is_compressed(path: &Path, file: &File) -> Result<bool, BackupError> {
    let mut begin = [0; MAGIC.len()];
    let mut file = file;
    match file.rewind().and_then(|()| file.read_exact(&mut begin)) {
        Ok(()) => Ok(begin == MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(BackupError::io("read", path)(error)),
    }
}

/// The archive in a file, from its beginning.
fn unpacked(path: &Path, file: &File) -> Result<tar::Archive<Decompressed>, BackupError> {
    let failed = BackupError::io("read", path);
    let mut file = file.try_clone().map_err(&failed)?;
    file.rewind().map_err(&failed)?;
    Ok(tar::Archive::new(zstd::Decoder::new(file).map_err(failed)?))
}

fn head(path: &Path, bytes: &[u8]) -> Result<Head, BackupError> {
    let damaged = |error: serde_json::Error| BackupError::Damaged {
        path: path.to_owned(),
        problem: format!("{HEAD}: {error}"),
    };
    // Of a later form, nothing but these is known.
    let json: Json = serde_json::from_slice(bytes).map_err(damaged)?;
    let format = json["format"].as_u64().unwrap_or_default();
    if format > FORMAT {
        return Err(BackupError::Newer {
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
