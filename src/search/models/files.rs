//! What files a model has, and that they are the ones that were fetched.
//!
//! A model is a folder as Hugging Face lays it out. Beside its files lies a record of their hashes, written when it was fetched.
//! What is used is what was hashed: small files are read once, and the weights are hashed where they are mapped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::{ModelError, pinned};

/// What is in the model and of which sizes.
pub(super) const CONFIG: &str = "config.json";
/// How texts become word pieces.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The tensors.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// How many word pieces a bi-encoder reads.
pub(super) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
/// How many word pieces the tokenizer is for.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// What a bi-encoder consists of.
pub(super) const MODULES: &str = "modules.json";
/// How a bi-encoder makes one vector of many.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// The hashes of all of them.
pub(super) const RECORD: &str = "plantlake-hashes.json";

/// A model has these files.
pub(super) const REQUIRED: [&str; 3] = [CONFIG, TOKENIZER, WEIGHTS];
/// It may have these.
pub(super) const OPTIONAL: [&str; 4] = [SENTENCE_CONFIG, TOKENIZER_CONFIG, MODULES, POOLING];

/// No file but the weights is larger.
pub(super) const LARGEST_SMALL_FILE: u64 = 64 << 20;

/// What a file was when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl FileHash {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref()),
        }
    }

    /// Of a file.
    pub(super) fn of_file(path: &Path) -> Result<Self, ModelError> {
        let measure = || {
            let mut file = File::open(path)?;
            let mut context = digest::Context::new(&digest::SHA256);
            let mut portion = vec![0; 1 << 18];
            let mut bytes = 0;
            loop {
                let read = file.read(&mut portion)?;
                if read == 0 {
                    break;
                }
                bytes += read as u64;
                context.update(portion.get(..read).unwrap_or_default());
            }
            Ok(Self {
                bytes,
                sha256: hexadecimal(context.finish().as_ref()),
            })
        };
        measure().map_err(|error| unreadable(path, &error))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> ModelError {
    ModelError::File {
        path: path.to_owned(),
        problem: match error.kind() {
            ErrorKind::NotFound => "is missing".to_owned(),
            _ => format!("cannot be read ({error})"),
        },
    }
}

/// What a model's files were when it was fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The model's name.
    pub model: String,
    /// Where the files came from.
    pub from: String,
    /// When.
    pub fetched_at: DateTime<Utc>,
    /// Each file by its path in the folder.
    pub files: BTreeMap<String, FileHash>,
}

impl Record {
    /// The record in a folder, if there is one.
    pub fn read(folder: &Path) -> Result<Option<Self>, ModelError> {
        let path = folder.join(RECORD);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let record = serde_json::from_slice(&text).map_err(|error| ModelError::Damaged {
            path,
            problem: format!("is not a record of hashes ({error})"),
        })?;
        Ok(Some(record))
    }

    /// Whether another copy of the model has the same files. What is in one only tells apart, too.
    pub fn agrees(&self, other: &BTreeMap<String, FileHash>) -> Result<(), String> {
        for name in self.files.keys().chain(other.keys()) {
            let (ours, theirs) = (self.files.get(name), other.get(name));
            if ours != theirs {
                let hash = |file: Option<&FileHash>| {
                    file.map_or("that there is none".to_owned(), |file| file.sha256.clone())
                };
                let (found, recorded) = (hash(theirs), hash(ours));
                return Err(format!(
                    "{name} has the SHA-256 {found}; recorded when this model was first fetched is {recorded}"
                ));
            }
        }
        Ok(())
    }
}

/// The hashes of all files of a model that are in a folder. Those that a model must have, must be there.
pub(super) fn hashes(folder: &Path) -> Result<BTreeMap<String, FileHash>, ModelError> {
    let mut hashes = BTreeMap::new();
    for name in REQUIRED.iter().chain(&OPTIONAL) {
        let path = folder.join(name);
        if REQUIRED.contains(name) || path.exists() {
            hashes.insert((*name).to_owned(), FileHash::of_file(&path)?);
        }
    }
    Ok(hashes)
}

/// That weights are those that are pinned for the model of this name, if any are.
pub(super) fn check_pinned(name: &str, sha256: &str) -> Result<(), String> {
    match pinned(name) {
        Some(pinned) if pinned != sha256 => Err(format!(
            "has the SHA-256 {sha256}, and that of {name} is {pinned}"
        )),
        _ => Ok(()),
    }
}

/// The files of one model, each checked as it is read.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    record: Option<Record>,
    /// The name of the model, if it must be the one that is pinned by that name.
    name: Option<String>,
}

impl Files {
    /// In any folder. They are checked against the record, if there is one.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        Ok(Self {
            folder: folder.to_owned(),
            record: Record::read(folder)?,
            name: None,
        })
    }

    /// In the folder where a model is fetched to. Something must say what they have to be.
    pub fn open_fetched(folder: &Path, name: &str) -> Result<Self, ModelError> {
        let record = Record::read(folder)?;
        if record.is_none() && pinned(name).is_none() {
            return Err(ModelError::Unrecorded {
                folder: folder.to_owned(),
            });
        }
        Ok(Self {
            folder: folder.to_owned(),
            record,
            name: Some(name.to_owned()),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A small file that must be there.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ModelError> {
        self.read_if_there(name)?
            .ok_or_else(|| unreadable(&self.path(name), &ErrorKind::NotFound.into()))
    }

    /// A small file that may be missing; not if it is recorded.
    pub fn read_if_there(&self, name: &str) -> Result<Option<Vec<u8>>, ModelError> {
        let path = self.path(name);
        let read = || {
            let mut content = Vec::new();
            File::open(&path)?
                .take(LARGEST_SMALL_FILE + 1)
                .read_to_end(&mut content)?;
            Ok::<_, std::io::Error>(content)
        };
        let content = match read() {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_recorded(name) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&path, &error)),
        };
        if content.len() as u64 > LARGEST_SMALL_FILE {
            return Err(self.damaged(name, "is too large to be what it should be"));
        }
        self.check(name, &content)?;
        Ok(Some(content))
    }

    /// The weights, mapped, and their hash.
    pub fn weights(&self) -> Result<(Mmap, String), ModelError> {
        let path = self.path(WEIGHTS);
        let file = File::open(&path).map_err(|error| {
            let mut told = unreadable(&path, &error);
            let pickle = self.path("pytorch_model.bin").exists();
            if let ModelError::File { problem, .. } = &mut told
                && pickle
            {
                problem.push_str(
                    ", and pytorch_model.bin is not read, because such a file can run code",
                );
            }
            told
        })?;
        #[expect(
            unsafe_code,
            reason = "memory that is a file's cannot be promised to keep still: fetched models are never written to, only \
                      replaced by a rename, and the map is gone once the tensors are copied out of it"
        )]
        // SAFETY: see above.
        let mapped = unsafe { Mmap::map(&file) }.map_err(|error| unreadable(&path, &error))?;
        let found = self.check(WEIGHTS, &mapped)?;
        if let Some(name) = &self.name {
            check_pinned(name, &found.sha256).map_err(|problem| self.damaged(WEIGHTS, problem))?;
        }
        Ok((mapped, found.sha256))
    }

    /// The hash that the weights have, or are to have: they are not read.
    pub fn weights_hash(&self) -> Option<&str> {
        let recorded = self
            .record
            .as_ref()
            .and_then(|record| record.files.get(WEIGHTS));
        let recorded = recorded.map(|file| &*file.sha256);
        recorded.or_else(|| pinned(self.name.as_deref()?))
    }

    /// That content is what is recorded of the file.
    fn check(&self, name: &str, content: &[u8]) -> Result<FileHash, ModelError> {
        let found = FileHash::of(content);
        let Some(record) = &self.record else {
            return Ok(found);
        };
        match record.files.get(name) {
            Some(recorded) if *recorded == found => Ok(found),
            Some(recorded) => Err(self.damaged(
                name,
                format!(
                    "is not what was fetched: its SHA-256 is {}, recorded is {}",
                    found.sha256, recorded.sha256
                ),
            )),
            None => Err(self.damaged(name, "is not among the files that were fetched")),
        }
    }

    fn is_recorded(&self, name: &str) -> bool {
        let record = self.record.as_ref();
        record.is_some_and(|record| record.files.contains_key(name))
    }

    /// The error that a file is damaged.
    pub fn damaged(&self, name: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Damaged {
            path: self.path(name),
            problem: problem.into(),
        }
    }

    /// The error that a file asks for what cannot be done.
    pub fn unsupported(&self, name: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Unsupported {
            path: self.path(name),
            problem: problem.into(),
        }
    }

    /// Reads a file's JSON; what is wrong is told with the field.
    pub fn json<T: for<'d> Deserialize<'d>>(
        &self,
        name: &str,
        content: &[u8],
    ) -> Result<T, ModelError> {
        let mut json = serde_json::Deserializer::from_slice(content);
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            let problem = match field.as_str() {
                "." => error.inner().to_string(),
                _ => format!("`{field}`: {}", error.inner()),
            };
            self.damaged(name, format!("is not what it should be ({problem})"))
        })
    }
}

/// How it stands with a model's files.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It was not fetched.
    Missing,
    /// They are all there and as they were recorded.
    Right {
        /// Each file.
        files: BTreeMap<String, FileHash>,
        /// Where they came from; unknown if somebody else put them there.
        from: Option<String>,
        /// The numbers that a vector of it has.
        dimensions: Option<usize>,
    },
    /// They are not.
    Wrong(ModelError),
}

impl Standing {
    /// The hash of the weights.
    pub fn weights(&self) -> Option<&FileHash> {
        match self {
            Self::Right { files, .. } => files.get(WEIGHTS),
            Self::Missing | Self::Wrong(_) => None,
        }
    }
}

/// Reads all files in the folder of the model of this name.
pub(super) fn standing(folder: &Path, name: &str) -> Standing {
    if !REQUIRED.iter().any(|file| folder.join(file).exists()) {
        return Standing::Missing;
    }
    match look(folder, name) {
        Ok(standing) => standing,
        Err(error) => Standing::Wrong(error),
    }
}

fn look(folder: &Path, name: &str) -> Result<Standing, ModelError> {
    let files = Files::open_fetched(folder, name)?;
    let found = hashes(folder)?;
    let damaged = |problem| files.damaged(WEIGHTS, problem);
    if let Some(record) = &files.record {
        record.agrees(&found).map_err(damaged)?;
    }
    let weights = found.get(WEIGHTS).map_or("", |file| &file.sha256);
    check_pinned(name, weights).map_err(damaged)?;
    #[derive(Deserialize)]
    struct Sizes {
        hidden_size: Option<usize>,
    }
    let sizes: Sizes = files.json(CONFIG, &files.read(CONFIG)?)?;
    Ok(Standing::Right {
        files: found,
        from: files.record.map(|record| record.from),
        dimensions: sizes.hidden_size,
    })
}
