//! Where bytes live: a folder, a bucket or memory, named by URL and reached through `object_store`.

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

/// Why a location cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text is neither a path nor a URL of a kind that plantlake knows.
    #[error(
        "{location:?} is not a place that plantlake can use: {reason}. Give a folder, file:///folder, s3://bucket/prefix or memory://name"
    )]
    Location {
        /// What was given.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of the object store is unknown or wrong.
    #[error("the storage settings for {location} cannot be used")]
    Settings {
        /// The URL that they are for.
        location: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// A folder to read from is not there.
    #[error(
        "the folder {path} is not there: make it and put Parquet files into it, or name another"
    )]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A storage setting that plantlake decides itself.
    #[error(
        "the storage setting {key} is not for you to set: commits are only safe as plantlake makes them. Remove it"
    )]
    Unsafe {
        /// The setting.
        key: String,
    },
    /// The folder cannot be made or resolved.
    #[error(
        "the folder {path} cannot be used; check that it is one and that you may write there, or name another"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// Settings for remote stores, as `object_store` spells them (`aws_endpoint`, `aws_access_key_id`, …).
pub type StoreOptions = HashMap<String, String>;

/// A folder in some object store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<dyn ObjectStore>,
    prefix: Path,
    url: Url,
    local: Option<PathBuf>,
}

impl Store {
    /// Opens a location to read from. Unlike [`open`](Self::open) it makes no folder: one that is not there is
    /// a mistake, or a disk that is not mounted, and must not be taken for one that was emptied.
    pub fn open_existing(location: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let local = match Url::parse(location) {
            Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
            _ if !location.contains("://") => Some(PathBuf::from(location)),
            _ => None,
        };
        if let Some(path) = local.filter(|path| !path.is_dir()) {
            return Err(StoreError::Missing { path });
        }
        Self::open(location, options)
    }

    /// Opens `location`: a local path (made if it is not there), or a `file://`, `s3://` or `memory://` URL.
    ///
    /// Nothing is read or written remotely yet. `memory://name` is shared by all that open it in one process.
    pub fn open(location: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        // No error may show the credentials that a URL has.
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
                })
            }
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_url(url.as_str())
                    // Commits are only safe where "create, or fail if it is there" is one step.
                    .with_conditional_put(S3ConditionalPut::ETagMatch);
                // Connections outlive the threads of the query that first needed one, and those of another cannot hold them up.
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
                        return Err(StoreError::Unsafe {
                            key: key.as_ref().to_owned(),
                        });
                    }
                    builder = builder.with_config(key, value);
                }
                let store = builder.build().map_err(|source| StoreError::Settings {
                    location: shown(),
                    source,
                })?;
                Ok(Self {
                    root: Arc::new(store),
                    prefix,
                    url,
                    local: None,
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
        })
    }

    /// The folder `name` below this one.
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
        }
    }

    /// The objects below this folder, with paths relative to it.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(
            Arc::clone(&self.root),
            self.prefix.clone(),
        ))
    }

    /// The whole store that this folder is in, for those that address objects by `absolute`.
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.root)
    }

    /// The path in `root` of an object below this folder.
    pub fn absolute(&self, relative: &Path) -> Path {
        self.prefix.parts().chain(relative.parts()).collect()
    }

    /// The folder's URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Waits until an object that was put below this folder is on the disk, where that is a local one: the local store
    /// leaves it to the system when that will be.
    pub async fn sync(&self, relative: &Path) -> object_store::Result<()> {
        let Some(folder) = &self.local else {
            return Ok(());
        };
        let file = folder.join(relative.as_ref());
        let sync = move || -> std::io::Result<()> {
            std::fs::File::open(&file)?.sync_all()?;
            // The names, too.
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

    /// The folder on the local disk, if it is there.
    pub fn local_path(&self) -> Option<&FsPath> {
        self.local.as_deref()
    }
}

impl std::fmt::Display for Store {
    /// The local path where there is one, else the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.local {
            Some(path) => path.display().fmt(f),
            None => self.url.fmt(f),
        }
    }
}

/// Deletes an object. That it is gone already is as good.
pub(super) async fn delete_if_there(
    objects: &dyn ObjectStore,
    path: &Path,
) -> object_store::Result<()> {
    match objects.delete(path).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Takes from a URL what does not name the place. Object stores take their credentials from the settings, and libraries
/// tell the URL in logs and errors.
fn remove_credentials(url: &mut Url) {
    // Refused for URLs without a host only, which have no credentials.
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
