//! The store of a lake: a folder, a bucket or memory, named by a URL and accessed through `object_store`.

use std::collections::HashMap;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::SpawnedReqwestConnector;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use url::Url;

use crate::config::redact;

/// The reasons why a location cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text is neither a path nor a URL with a supported scheme.
    #[error(
        "cannot use the location {location:?}: {reason}. Use a folder, file:///folder, s3://bucket/prefix or memory://name"
    )]
    Location {
        /// The location as it was given.
        location: String,
        /// The reason.
        reason: String,
    },
    /// A setting of the object store is unknown or invalid.
    #[error("invalid storage settings for {location}")]
    Settings {
        /// The URL that the settings are for.
        location: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// A folder to read from does not exist.
    #[error(
        "the folder {path} does not exist; create it and put Parquet files into it, or name another"
    )]
    Missing {
        /// The path of the folder.
        path: PathBuf,
    },
    /// The folder of a lake that is to be read does not exist.
    #[error(
        "cannot open the lake {path}: it does not exist; check --lake, or create it with `plantlake simulate` or \
         `plantlake resample`"
    )]
    MissingLake {
        /// The path of the folder.
        path: PathBuf,
    },
    /// The setting must not be changed by users.
    #[error(
        "cannot change the storage setting {key}: commits are safe only with the value that plantlake sets. Remove it"
    )]
    ReservedSetting {
        /// The name of the setting.
        key: String,
    },
    /// The folder cannot be created or resolved.
    #[error(
        "cannot use the folder {path}; check that it is a folder and that you may write there, or name another"
    )]
    Folder {
        /// The path of the folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// Settings for remote stores, with the names that `object_store` uses (`aws_endpoint`, `aws_access_key_id`, …).
pub type StoreOptions = HashMap<String, String>;

/// A folder in an object store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<dyn ObjectStore>,
    prefix: Path,
    url: Url,
    local: Option<PathBuf>,
    /// The address of the server, if it is not that of the bucket's region.
    endpoint: Option<String>,
}

impl Store {
    /// Opens a location to read from. Unlike [`open`](Self::open) it creates no folder: a missing folder is a mistake
    /// or an unmounted disk, and must not be treated as an empty one.
    pub fn open_existing(location: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        match missing_folder(location) {
            Some(path) => Err(StoreError::Missing { path }),
            None => Self::open(location, options),
        }
    }

    /// Opens a lake to read from. Like [`open_existing`](Self::open_existing) it creates no folder.
    pub fn open_existing_lake(location: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        match missing_folder(location) {
            Some(path) => Err(StoreError::MissingLake { path }),
            None => Self::open(location, options),
        }
    }

    /// Opens `location`: a local path (created if it does not exist), or a `file://`, `s3://` or `memory://` URL.
    ///
    /// Nothing is read from or written to a remote store yet. A store `memory://name` is shared within the process.
    pub fn open(location: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        // No error may contain the credentials in a URL.
        let shown = || redact(location).into_owned();
        let wrong = |reason: &str| StoreError::Location {
            location: shown(),
            reason: reason.to_owned(),
        };
        if !location.contains("://") {
            return Self::open_folder(FsPath::new(location));
        }
        let mut url = Url::parse(location).map_err(|error| wrong(&error.to_string()))?;
        remove_credentials(&mut url);
        let prefix = Path::from_url_path(url.path()).map_err(|error| wrong(&error.to_string()))?;
        match url.scheme() {
            "file" => Self::open_folder(
                &url.to_file_path()
                    .map_err(|()| wrong("it is not a local path"))?,
            ),
            "memory" => {
                let name = url.host_str().unwrap_or_default().to_owned();
                Ok(Self {
                    root: shared_memory(&name),
                    prefix,
                    url,
                    local: None,
                    endpoint: None,
                })
            }
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_url(url.as_str())
                    // Commits are safe only if the store creates an object atomically, or fails because it exists.
                    .with_conditional_put(S3ConditionalPut::ETagMatch);
                // Requests run on this runtime: connections outlive the threads of the query that opened them, and the
                // threads of another query cannot block them.
                if let Ok(runtime) = Handle::try_current() {
                    builder = builder.with_http_connector(SpawnedReqwestConnector::new(runtime));
                }
                for (key, value) in options {
                    let key: AmazonS3ConfigKey =
                        key.parse().map_err(|source| StoreError::Settings {
                            location: shown(),
                            source,
                        })?;
                    if matches!(
                        key,
                        AmazonS3ConfigKey::ConditionalPut | AmazonS3ConfigKey::CopyIfNotExists
                    ) {
                        return Err(StoreError::ReservedSetting {
                            key: key.as_ref().to_owned(),
                        });
                    }
                    builder = builder.with_config(key, value);
                }
                let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
                    .iter()
                    .find_map(|key| builder.get_config_value(key))
                    .and_then(|endpoint| Url::parse(&endpoint).ok())
                    .map(|mut endpoint| {
                        remove_credentials(&mut endpoint);
                        endpoint.to_string()
                    });
                let store = builder.build().map_err(|source| StoreError::Settings {
                    location: shown(),
                    source,
                })?;
                Ok(Self {
                    root: Arc::new(store),
                    prefix,
                    url,
                    local: None,
                    endpoint,
                })
            }
            other => Err(wrong(&format!("the scheme {other:?} is unknown"))),
        }
    }

    fn open_folder(folder: &FsPath) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Folder {
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let folder = folder.canonicalize().map_err(failed)?;
        let unusable = || StoreError::Location {
            location: folder.display().to_string(),
            reason: "the path cannot be written as a URL".to_owned(),
        };
        let prefix = Path::from_absolute_path(&folder).map_err(|_| unusable())?;
        let url = Url::from_directory_path(&folder).map_err(|()| unusable())?;
        Ok(Self {
            root: Arc::new(LocalFileSystem::new()),
            prefix,
            url,
            local: Some(folder),
            endpoint: None,
        })
    }

    /// Returns the subfolder `name`.
    pub fn child(&self, name: &str) -> Self {
        let mut url = self.url.clone();
        let path = format!("{}/{name}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let prefix = self
            .prefix
            .parts()
            .chain(Path::from(name).parts())
            .collect();
        Self {
            root: Arc::clone(&self.root),
            prefix,
            url,
            local: self.local.as_ref().map(|folder| folder.join(name)),
            endpoint: self.endpoint.clone(),
        }
    }

    /// Returns an object store of this folder, with paths relative to it.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(
            Arc::clone(&self.root),
            self.prefix.clone(),
        ))
    }

    /// Returns the whole store that this folder is in, for code that uses paths from `absolute`.
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.root)
    }

    /// Returns the path in `root` of an object in this folder.
    pub fn absolute(&self, relative: &Path) -> Path {
        self.prefix.parts().chain(relative.parts()).collect()
    }

    /// Returns the URL of the folder.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Waits until an object in this folder is on the disk, if the store is a local one: the local store does not flush
    /// files itself. Does nothing for other stores.
    pub async fn sync(&self, relative: &Path) -> object_store::Result<()> {
        let Some(folder) = &self.local else {
            return Ok(());
        };
        let file = folder.join(relative.as_ref());
        let sync = move || -> std::io::Result<()> {
            std::fs::File::open(&file)?.sync_all()?;
            // The directory entries must be on the disk, too.
            let folders = file.ancestors().skip(1).take(2);
            folders
                .map(std::fs::File::open)
                .try_for_each(|folder| folder?.sync_all())
        };
        let synced = tokio::task::spawn_blocking(sync).await;
        let synced = synced.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        synced.map_err(|error| object_store::Error::Generic {
            store: "local disk",
            source: Box::new(error),
        })
    }

    /// Returns the URL of the folder and the endpoint of its server, for errors.
    pub fn location(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{self} at {endpoint}"),
            None => self.to_string(),
        }
    }

    /// Returns the path of the folder on the local disk, or `None` for other stores.
    pub fn local_path(&self) -> Option<&FsPath> {
        self.local.as_deref()
    }
}

impl std::fmt::Display for Store {
    /// Formats the local path if there is one, otherwise the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.local {
            Some(path) => path.display().fmt(f),
            None => self.url.fmt(f),
        }
    }
}

/// Returns the path of a location that is a folder on the local disk; `None` for other stores.
pub fn local_folder(location: &str) -> Option<PathBuf> {
    match Url::parse(location) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        _ if !location.contains("://") => Some(PathBuf::from(location)),
        _ => None,
    }
}

/// Returns the path of a local folder that does not exist; `None` for existing folders and for other stores.
fn missing_folder(location: &str) -> Option<PathBuf> {
    local_folder(location).filter(|path| !path.is_dir())
}

/// Deletes an object. Succeeds if the object does not exist.
pub(in crate::lake) async fn delete_if_exists(
    objects: &dyn ObjectStore,
    path: &Path,
) -> object_store::Result<()> {
    match objects.delete(path).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Removes credentials, query and fragment from a URL. Object stores take credentials from the settings, and libraries
/// show the URL in logs and errors.
fn remove_credentials(url: &mut Url) {
    // These calls fail only for URLs without a host, which have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
}

fn shared_memory(name: &str) -> Arc<dyn ObjectStore> {
    static STORES: OnceLock<Mutex<HashMap<String, Arc<InMemory>>>> = OnceLock::new();
    let mut stores = STORES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let store: Arc<dyn ObjectStore> =
        Arc::<InMemory>::clone(stores.entry(name.to_owned()).or_default());
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_folder_of_file_url_is_decoded() {
        for (location, expected) in [
            ("file:///srv/my%20lake", Some("/srv/my lake")),
            ("/srv/my%20lake", Some("/srv/my%20lake")),
            ("lake", Some("lake")),
            ("s3://bucket/lake", None),
        ] {
            assert_eq!(
                local_folder(location).as_deref(),
                expected.map(FsPath::new),
                "{location}"
            );
        }
    }

    #[test]
    fn open_existing_of_missing_folder_fails_and_creates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("lke");
        let location = missing.to_str().unwrap();
        let options = StoreOptions::new();
        for location in [location.to_owned(), format!("file://{location}")] {
            let lake = Store::open_existing_lake(&location, &options).unwrap_err();
            assert!(matches!(lake, StoreError::MissingLake { .. }), "{lake}");
            let raw = Store::open_existing(&location, &options).unwrap_err();
            assert!(matches!(raw, StoreError::Missing { .. }), "{raw}");
            assert!(!missing.exists());
        }
        Store::open(location, &options).unwrap();
        assert!(Store::open_existing_lake(location, &options).is_ok());
        assert!(Store::open_existing_lake("memory://existing/lake", &options).is_ok());
    }
}
