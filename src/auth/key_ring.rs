//! The keys of the servers. Each has an Ed25519 pair that signs access tokens, and a secret that encrypts tickets. They
//! are files in one folder, which several servers may share.
//!
//! The newest key signs. Older keys still verify, so that a rotation ends no session. They are deleted once every token
//! that they signed has expired. The folder is read again when it was last read over a second ago, or when a token
//! names an unknown key, so that a rotation and a removal need no restart.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};

use super::encryption_key::EncryptionKey;
use super::error::{AuthError, KeyRingError};
use super::random::random;
use crate::clock::{self, Stopwatch};
use crate::config::MAX_TOKEN_LIFETIME;
use crate::store::for_owner_only;

/// The maximum age of the keys in memory; after it, the folder is read again.
const MAX_AGE: Duration = Duration::from_secs(1);
/// The extension of key files.
const EXTENSION: &str = "key";

/// The content of a key file.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    id: String,
    created_at: DateTime<Utc>,
    /// The Ed25519 private key, PKCS #8 version 1 (RFC 5208), base64.
    signing: String,
    /// The secret that encrypts tickets: 32 bytes, base64.
    sealing: String,
}

/// A key. `Debug` shows only its id.
pub(super) struct Key {
    id: String,
    created_at: DateTime<Utc>,
    signing_key: EncodingKey,
    verifying_key: DecodingKey,
    encryption_key: EncryptionKey,
}

impl Key {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn signing_key(&self) -> &EncodingKey {
        &self.signing_key
    }

    pub fn verifying_key(&self) -> &DecodingKey {
        &self.verifying_key
    }

    pub fn encryption_key(&self) -> &EncryptionKey {
        &self.encryption_key
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The public attributes of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The id, which tokens name as `kid`.
    pub id: String,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// Whether new tokens are signed with it.
    pub signs: bool,
    /// The latest time at which a token that it signed expires; `None` for the key that signs.
    pub needed_until: Option<DateTime<Utc>>,
}

/// The keys in a folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyRing {
    folder: PathBuf,
    cache: Arc<Mutex<CachedKeys>>,
}

#[derive(Debug)]
struct CachedKeys {
    since: Stopwatch,
    /// The oldest first.
    keys: Vec<Arc<Key>>,
}

impl KeyRing {
    /// Opens the keys of `folder`; creates the folder and a first key if there is none.
    pub fn open(folder: &Path) -> Result<Self, AuthError> {
        create_folder(folder)?;
        let mut keys = read_folder(folder)?;
        if keys.is_empty() {
            // Servers that start at the same time each create one. All of them verify.
            write_key(folder)?;
            keys = read_folder(folder)?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            cache: Arc::new(Mutex::new(CachedKeys {
                since: Stopwatch::start(),
                keys,
            })),
        })
    }

    /// Returns the number of keys in `folder`, after checking that all are usable; creates none. `None` if the folder
    /// does not exist.
    pub fn count_keys(folder: &Path) -> Result<Option<usize>, AuthError> {
        match folder.exists() {
            true => Ok(Some(read_folder(folder)?.len())),
            false => Ok(None),
        }
    }

    /// The key that new tokens are signed with.
    pub(super) fn newest(&self) -> Result<Arc<Key>, AuthError> {
        let keys = self.keys(MAX_AGE)?;
        let newest = keys.last().cloned();
        newest.ok_or_else(|| {
            KeyRingError::Unknown {
                id: "(any)".to_owned(),
            }
            .into()
        })
    }

    /// Returns the key of this id.
    pub(super) fn find(&self, id: &str) -> Result<Option<Arc<Key>>, AuthError> {
        let find_in = |keys: &[Arc<Key>]| keys.iter().find(|key| key.id == id).cloned();
        match find_in(&self.keys(MAX_AGE)?) {
            Some(key) => Ok(Some(key)),
            // Another server may have created it just now. A quarter of the maximum age bounds how often made-up ids
            // cause reads.
            None => Ok(find_in(&self.keys(MAX_AGE / 4)?)),
        }
    }

    /// Returns all keys, the oldest first.
    pub fn list(&self) -> Result<Vec<KeyInfo>, AuthError> {
        let keys = self.keys(Duration::ZERO)?;
        let successors = keys
            .iter()
            .skip(1)
            .map(|key| Some(key.created_at))
            .chain([None]);
        let info = keys.iter().zip(successors).map(|(key, successor)| KeyInfo {
            id: key.id.clone(),
            created_at: key.created_at,
            signs: successor.is_none(),
            needed_until: successor.map(|at| at + MAX_TOKEN_LIFETIME),
        });
        Ok(info.collect())
    }

    /// Creates a key, which signs from now on, and deletes the keys whose tokens have all expired. Returns the new key
    /// and the deleted ids.
    pub fn rotate(&self) -> Result<(KeyInfo, Vec<String>), AuthError> {
        write_key(&self.folder)?;
        let now = clock::now();
        let mut deleted = Vec::new();
        for key in self.list()? {
            if key.needed_until.is_some_and(|until| until < now) {
                self.delete(&key.id)?;
                deleted.push(key.id);
            }
        }
        let newest = self.list()?.pop();
        let newest = newest.ok_or_else(|| KeyRingError::Unknown {
            id: "(any)".to_owned(),
        })?;
        Ok((newest, deleted))
    }

    /// Deletes a key that was leaked; tokens that it signed are refused within seconds. If it is the key that signs, a
    /// new one is created first.
    pub fn remove(&self, id: &str) -> Result<(), AuthError> {
        let keys = self.list()?;
        let Some(key) = keys.iter().find(|key| key.id == id) else {
            return Err(KeyRingError::Unknown { id: id.to_owned() }.into());
        };
        if key.signs {
            write_key(&self.folder)?;
        }
        self.delete(id)?;
        self.keys(Duration::ZERO)?;
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<(), KeyRingError> {
        let path = key_path(&self.folder, id);
        std::fs::remove_file(&path).map_err(|source| KeyRingError::Io {
            action: "delete",
            path,
            source,
        })
    }

    /// Returns the keys, at most `age` old.
    fn keys(&self, age: Duration) -> Result<Vec<Arc<Key>>, AuthError> {
        let mut read = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if read.since.elapsed() >= age {
            read.keys = read_folder(&self.folder)?;
            read.since = Stopwatch::start();
        }
        Ok(read.keys.clone())
    }
}

fn key_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.{EXTENSION}"))
}

fn create_folder(folder: &Path) -> Result<(), KeyRingError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| KeyRingError::Io {
        action: "create",
        path: folder.to_owned(),
        source,
    })
}

/// Creates a key and writes its file atomically.
fn write_key(folder: &Path) -> Result<(), AuthError> {
    let created_at = clock::now();
    // The id begins with the time, so that files sort in the order in which they sign.
    let suffix = u32::from_be_bytes(random()?);
    let id = format!("{}-{suffix:08x}", created_at.format("%Y%m%dT%H%M%S%3fZ"));
    let pair = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1());
    let pair = pair.map_err(|_| AuthError::NoRandomness)?;
    let file = KeyFile {
        id: id.clone(),
        created_at,
        signing: STANDARD.encode(pair.as_ref()),
        sealing: STANDARD.encode(random::<32>()?),
    };
    let path = key_path(folder, &id);
    let staged = folder.join(format!(".{id}.staged"));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let mut out: File = for_owner_only(&mut options).open(&staged)?;
        out.write_all(&serde_json::to_vec_pretty(&file)?)?;
        out.sync_all()?;
        std::fs::rename(&staged, &path)
    };
    write().map_err(|source| KeyRingError::Io {
        action: "write",
        path: path.clone(),
        source,
    })?;
    Ok(())
}

/// Reads the keys of the folder, the oldest first.
fn read_folder(folder: &Path) -> Result<Vec<Arc<Key>>, KeyRingError> {
    let failed = |path: &Path, source| KeyRingError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    check_owner_only(folder)
        .map_err(|error| error.unwrap_or_else(|source| failed(folder, source)))?;
    let mut keys = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != EXTENSION)
        {
            continue;
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // A rotation by another process deleted it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(failed(&path, source)),
        };
        check_owner_only(&path)
            .map_err(|error| error.unwrap_or_else(|source| failed(&path, source)))?;
        let key = parse(&bytes).map_err(|problem| KeyRingError::Damaged { path, problem })?;
        keys.insert((key.created_at, key.id.clone()), Arc::new(key));
    }
    Ok(keys.into_values().collect())
}

fn parse(bytes: &[u8]) -> Result<Key, String> {
    // The error of serde quotes the wrong value, which may be a secret.
    let file: KeyFile = serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "it is not JSON of the expected format, line {} column {}",
            error.line(),
            error.column()
        )
    })?;
    let decode = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| "it is not base64".to_owned())
    };
    let pkcs8 = decode(&file.signing)?;
    let pair = Ed25519KeyPair::from_pkcs8(&pkcs8)
        .map_err(|_| "it is not an Ed25519 key pair".to_owned())?;
    let sealing = EncryptionKey::new(&decode(&file.sealing)?)
        .ok_or_else(|| "its encryption key does not have 32 bytes".to_owned())?;
    Ok(Key {
        id: file.id,
        created_at: file.created_at,
        signing_key: EncodingKey::from_ed_der(&pkcs8),
        verifying_key: DecodingKey::from_ed_der(pair.public_key().as_ref()),
        encryption_key: sealing,
    })
}

/// Fails if others than the owner may use `path`. The inner error is that of the operating system.
#[cfg(unix)]
fn check_owner_only(path: &Path) -> Result<(), Result<KeyRingError, io::Error>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Err(error)),
    };
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        let path = path.to_owned();
        Err(Ok(KeyRingError::Exposed { path, mode }))
    }
}

#[cfg(not(unix))]
fn check_owner_only(_: &Path) -> Result<(), Result<KeyRingError, io::Error>> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_signs_with_newest_key_and_verifies_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let ring = KeyRing::open(&folder).unwrap();
        let first = ring.newest().unwrap();
        let other = KeyRing::open(&folder).unwrap();
        assert_eq!(other.newest().unwrap().id(), first.id());
        // Keys created in the same millisecond have no defined order.
        std::thread::sleep(Duration::from_millis(2));
        let (second, deleted) = ring.rotate().unwrap();
        assert!(second.signs && deleted.is_empty());
        assert_eq!(ring.newest().unwrap().id(), second.id);
        // The other server reads the folder as soon as a token names the new key.
        std::thread::sleep(MAX_AGE / 3);
        assert!(other.find(&second.id).unwrap().is_some());
        assert!(other.find(first.id()).unwrap().is_some());
        assert!(other.find("made-up").unwrap().is_none());
        ring.remove(first.id()).unwrap();
        assert!(ring.find(first.id()).unwrap().is_none());
        ring.remove(&second.id).unwrap();
        assert_eq!(ring.list().unwrap().len(), 1);
        assert!(ring.remove("made-up").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn key_ring_refuses_exposed_and_damaged_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let ring = KeyRing::open(&folder).unwrap();
        let path = key_path(&folder, ring.newest().unwrap().id());
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let fails = |part: &str| {
            let error = KeyRing::open(&folder).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        mode(&path, 0o640);
        fails("mode 640");
        mode(&path, 0o600);
        mode(&folder, 0o755);
        fails("mode 755");
        mode(&folder, 0o700);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"sealing\": \"", "\"sealing\": \"x")).unwrap();
        fails("is damaged");
        std::fs::write(&path, "{}").unwrap();
        fails("is damaged");
    }
}
