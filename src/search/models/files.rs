//! A model's files and their verification against the recorded hashes.
//!
//! A model is a folder in the layout of Hugging Face. A record of the files' hashes, written when the model was
//! fetched, is stored next to them. The content that is used is the content that was hashed: small files are read
//! once, and the weights are hashed in the memory map that they are loaded from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::error::ModelError;

/// The configuration: the kind of model and its sizes.
pub(super) const CONFIG: &str = "config.json";
/// The tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The tensors.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The maximum number of tokens that a bi-encoder reads.
pub(super) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
/// The maximum number of tokens of the tokenizer.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The modules of a bi-encoder.
pub(super) const MODULES: &str = "modules.json";
/// The pooling of token states into an embedding.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// The hashes of all files.
pub(super) const RECORD: &str = "plantlake-hashes.json";

/// The required files of a model.
pub(super) const REQUIRED: [&str; 3] = [CONFIG, TOKENIZER, WEIGHTS];
/// The optional files of a model.
pub(super) const OPTIONAL: [&str; 4] = [SENTENCE_CONFIG, TOKENIZER_CONFIG, MODULES, POOLING];

/// The maximum size of every file except the weights, in bytes.
pub(super) const MAX_SMALL_FILE_BYTES: u64 = 64 << 20;

/// The pinned bi-encoder and the SHA-256 of its weights.
pub(super) const PINNED: (&str, &str) = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
);

/// The size and hash of a file when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl FileHash {
    /// Hashes these bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref()),
        }
    }

    /// Hashes a file.
    pub(super) fn from_file(path: &Path) -> Result<Self, ModelError> {
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

/// The record of a model's files when it was fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The model's name.
    pub model: String,
    /// The source of the files.
    pub from: String,
    /// The time of the fetch.
    pub fetched_at: DateTime<Utc>,
    /// The files by their paths in the folder.
    pub files: BTreeMap<String, FileHash>,
}

impl Record {
    /// Reads the record in a folder, if there is one.
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

    /// Checks that another copy of the model has the same files. A file that only one copy has is a difference, too.
    pub fn check_matches(&self, other: &BTreeMap<String, FileHash>) -> Result<(), String> {
        for name in self.files.keys().chain(other.keys()) {
            let (ours, theirs) = (self.files.get(name), other.get(name));
            if ours != theirs {
                let hash = |file: Option<&FileHash>| {
                    file.map_or("none".to_owned(), |file| file.sha256.clone())
                };
                let (found, recorded) = (hash(theirs), hash(ours));
                return Err(format!(
                    "{name}: expected the SHA-256 {recorded}, recorded when this model was first fetched, and found {found}"
                ));
            }
        }
        Ok(())
    }
}

/// Hashes all files of a model in a folder. Fails if a required file is missing.
pub(super) fn hashes(folder: &Path) -> Result<BTreeMap<String, FileHash>, ModelError> {
    let mut hashes = BTreeMap::new();
    for name in REQUIRED.iter().chain(&OPTIONAL) {
        let path = folder.join(name);
        if REQUIRED.contains(name) || path.exists() {
            hashes.insert((*name).to_owned(), FileHash::from_file(&path)?);
        }
    }
    Ok(hashes)
}

/// Returns the required SHA-256 of the model's weights, if the model with this name is pinned.
pub(super) fn pinned(name: &str) -> Option<&'static str> {
    (name == PINNED.0).then_some(PINNED.1)
}

/// Checks the hash of the weights, if the model with this name is pinned.
pub(super) fn check_pinned(name: &str, sha256: &str) -> Result<(), String> {
    match pinned(name) {
        Some(pinned) if pinned != sha256 => Err(format!(
            "has the SHA-256 {sha256}, but {name} requires {pinned}"
        )),
        _ => Ok(()),
    }
}

/// The files of one model. Each file is verified when it is read.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    record: Option<Record>,
    /// The name of the model, if the weights must match the hash that is pinned for it.
    name: Option<String>,
}

impl Files {
    /// Opens the files in any folder. They are verified against the record, if there is one.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        Ok(Self {
            folder: folder.to_owned(),
            record: Record::read(folder)?,
            name: None,
        })
    }

    /// Opens the files in the folder that the model is fetched to. Fails if there is neither a record nor a pinned
    /// hash.
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

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Reads a small file; fails if it is missing.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ModelError> {
        self.read_optional(name)?
            .ok_or_else(|| unreadable(&self.path(name), &ErrorKind::NotFound.into()))
    }

    /// Reads a small file; none if it is missing. Fails if a recorded file is missing.
    pub fn read_optional(&self, name: &str) -> Result<Option<Vec<u8>>, ModelError> {
        let path = self.path(name);
        let read = || {
            let mut content = Vec::new();
            File::open(&path)?
                .take(MAX_SMALL_FILE_BYTES + 1)
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
        if content.len() as u64 > MAX_SMALL_FILE_BYTES {
            let problem = format!("is larger than {} MiB", MAX_SMALL_FILE_BYTES >> 20);
            return Err(self.damaged(name, problem));
        }
        self.check(name, &content)?;
        Ok(Some(content))
    }

    /// Maps the weights and returns them with their SHA-256.
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
            reason = "a memory-mapped file must not change: fetched models are never written to, only replaced by a rename, \
                      and the map is dropped once the tensors are copied"
        )]
        // SAFETY: a memory-mapped file must not change. Fetched models are never written to, only replaced by a
        // rename, and the map is dropped once the tensors have been copied.
        let mapped = unsafe { Mmap::map(&file) }.map_err(|error| unreadable(&path, &error))?;
        let found = self.check(WEIGHTS, &mapped)?;
        if let Some(name) = &self.name {
            check_pinned(name, &found.sha256).map_err(|problem| self.damaged(WEIGHTS, problem))?;
        }
        Ok((mapped, found.sha256))
    }

    /// Returns the recorded or pinned hash of the weights without reading them.
    pub fn weights_hash(&self) -> Option<&str> {
        let recorded = self
            .record
            .as_ref()
            .and_then(|record| record.files.get(WEIGHTS));
        let recorded = recorded.map(|file| &*file.sha256);
        recorded.or_else(|| pinned(self.name.as_deref()?))
    }

    /// Checks that content matches the record.
    fn check(&self, name: &str, content: &[u8]) -> Result<FileHash, ModelError> {
        let found = FileHash::from_bytes(content);
        let Some(record) = &self.record else {
            return Ok(found);
        };
        match record.files.get(name) {
            Some(recorded) if *recorded == found => Ok(found),
            Some(recorded) => Err(self.damaged(
                name,
                format!(
                    "differs from the fetched file: its SHA-256 is {}, the recorded one {}",
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

    /// Creates the error for a damaged file.
    pub fn damaged(&self, name: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Damaged {
            path: self.path(name),
            problem: problem.into(),
        }
    }

    /// Creates the error for a file that needs an unsupported feature.
    pub fn unsupported(&self, name: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Unsupported {
            path: self.path(name),
            problem: problem.into(),
        }
    }

    /// Parses a file's JSON; errors name the field.
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
            self.damaged(name, format!("is invalid ({problem})"))
        })
    }
}

/// The status of a model's files.
#[derive(Debug, Clone)]
pub enum ModelStatus {
    /// The model was not fetched.
    Missing,
    /// All files are present and match the record.
    Valid {
        /// Each file.
        files: BTreeMap<String, FileHash>,
        /// The source of the files; unknown if they were not fetched.
        from: Option<String>,
        /// The number of dimensions of an embedding.
        dimensions: Option<usize>,
    },
    /// The files are incomplete, damaged or unsupported.
    Invalid(ModelError),
}

impl ModelStatus {
    /// Returns the hash of the weights.
    pub fn weights(&self) -> Option<&FileHash> {
        match self {
            Self::Valid { files, .. } => files.get(WEIGHTS),
            Self::Missing | Self::Invalid(_) => None,
        }
    }
}

/// Determines the status of the model with this name by reading all files in its folder.
pub(super) fn model_status(folder: &Path, name: &str) -> ModelStatus {
    if !REQUIRED.iter().any(|file| folder.join(file).exists()) {
        return ModelStatus::Missing;
    }
    match check_all(folder, name) {
        Ok(standing) => standing,
        Err(error) => ModelStatus::Invalid(error),
    }
}

fn check_all(folder: &Path, name: &str) -> Result<ModelStatus, ModelError> {
    let files = Files::open_fetched(folder, name)?;
    let found = hashes(folder)?;
    let damaged = |problem| files.damaged(WEIGHTS, problem);
    if let Some(record) = &files.record {
        record.check_matches(&found).map_err(damaged)?;
    }
    let weights = found.get(WEIGHTS).map_or("", |file| &file.sha256);
    check_pinned(name, weights).map_err(damaged)?;
    #[derive(Deserialize)]
    struct Sizes {
        hidden_size: Option<usize>,
    }
    let sizes: Sizes = files.json(CONFIG, &files.read(CONFIG)?)?;
    Ok(ModelStatus::Valid {
        files: found,
        from: files.record.map(|record| record.from),
        dimensions: sizes.hidden_size,
    })
}
