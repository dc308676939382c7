//! The embedded index: Qdrant's engine as a library, in a folder that one process locks.
//!
//! Every call blocks, and runs on a blocking thread. The folder is a cache of the catalog: unreadable collections are
//! set aside and rebuilt.
//!
//! | file | contents |
//! |---|---|
//! | `home` | the folder: its lock, its collections and which of them is active |
//! | `collection` | updates of and queries to a collection, and its caches in memory |
//! | `shard` | Qdrant's engine, and the requirements that it puts on its caller |

mod collection;
mod home;
mod shard;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;

use self::collection::{Collection, OpenError};
use self::home::Home;
use super::{Hits, IndexError, Lookup, Point, Stored, VectorIndex};
use crate::clock::Stopwatch;
use crate::model::AssetId;

/// The maximum wait for queries that still use a closed collection. They usually take milliseconds.
const LONGEST_LEAVING: Duration = Duration::from_secs(10);

/// An index in a local folder.
#[derive(Debug)]
pub struct EdgeIndex {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// None until the first use.
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    collections: HashMap<String, Arc<Collection>>,
    /// Closed collections that queries may still use.
    leaving: HashMap<String, Weak<()>>,
    home: Home,
}

impl EdgeIndex {
    /// Creates an index in this folder, which need not exist. The folder is read and locked at the first use.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let folder = std::path::absolute(folder).map_err(|error| home::failed(folder, error))?;
        Ok(Self {
            shared: Arc::new(Shared {
                folder,
                opened: Mutex::default(),
            }),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.unwrap_or_else(|_| {
            Err(home::failed(
                &self.shared.folder,
                "the operation was interrupted before it completed",
            ))
        })
    }
}

impl Shared {
    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Opened) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut opened = self.opened();
        let opened = match &mut *opened {
            Some(opened) => opened,
            nothing => nothing.insert(Opened {
                collections: HashMap::new(),
                leaving: HashMap::new(),
                home: Home::take(&self.folder)?,
            }),
        };
        work(opened)
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, IndexError> {
        let found = self.with(|opened| opened.collection(&self.folder, name))?;
        found.ok_or_else(|| IndexError::Missing {
            collection: name.to_owned(),
        })
    }

    /// Changes a collection. A failed change may be incomplete in memory, so the collection is reopened from disk.
    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&Collection) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let collection = self.collection(name)?;
        let done = change(&collection);
        if done.is_err() {
            let mut opened = self.opened();
            if let Some(opened) = &mut *opened {
                opened.let_go(name, &collection);
            }
        }
        done
    }
}

impl Opened {
    /// Returns a collection, opening it if necessary; none if it does not exist or is damaged.
    fn collection(
        &mut self,
        folder: &Path,
        name: &str,
    ) -> Result<Option<Arc<Collection>>, IndexError> {
        if let Some(open) = self.collections.get(name) {
            return Ok(Some(Arc::clone(open)));
        }
        if !self.home.has(name) {
            return Ok(None);
        }
        self.wait_for_the_last_to_leave(folder, name)?;
        match Collection::open(&self.home, folder, name, None) {
            Ok(collection) => {
                let collection = Arc::new(collection);
                let opened = Arc::clone(&collection);
                self.collections.insert(name.to_owned(), opened);
                Ok(Some(collection))
            }
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Damaged(problem)) => {
                self.set_aside(folder, name, &problem)?;
                Ok(None)
            }
        }
    }

    /// Sets an unreadable collection aside.
    fn set_aside(&mut self, folder: &Path, name: &str, problem: &str) -> Result<(), IndexError> {
        if self.collections.contains_key(name) || !self.home.has(name) {
            // Another caller has already done so.
            return Ok(());
        }
        self.wait_for_the_last_to_leave(folder, name)?;
        let aside = self.home.set_aside(name)?;
        tracing::warn!(
            collection = name,
            problem,
            set_aside_in = %aside.display(),
            "cannot read the search index; run `plantlake index` to rebuild it"
        );
        Ok(())
    }

    fn create(
        &mut self,
        folder: &Path,
        name: &str,
        dimensions: Option<usize>,
    ) -> Result<(), IndexError> {
        if self.collection(folder, name)?.is_some() {
            return Ok(());
        }
        self.wait_for_the_last_to_leave(folder, name)?;
        self.home.begin(name)?;
        match Collection::open(&self.home, folder, name, Some(dimensions)) {
            Ok(collection) => {
                self.collections
                    .insert(name.to_owned(), Arc::new(collection));
                Ok(())
            }
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Damaged(problem)) => Err(home::failed(folder, problem)),
        }
    }

    fn put_in_force(&mut self, folder: &Path, name: &str) -> Result<(), IndexError> {
        if self.collection(folder, name)?.is_none() {
            return Err(IndexError::Missing {
                collection: name.to_owned(),
            });
        }
        self.home.put_in_force(name)?;
        let others: Vec<String> = self
            .collections
            .keys()
            .filter(|other| *other != name)
            .cloned()
            .collect();
        for other in others {
            if let Some(collection) = self.collections.remove(&other) {
                collection.drop_folder();
                self.leaving.insert(other, collection.presence());
            }
        }
        let leaving = &self.leaving;
        if let Err(error) = self.home.tidy_up(|name| leaving.contains_key(name)) {
            // The next process that locks the folder tries again.
            tracing::warn!(%error, "cannot remove a former search index");
        }
        Ok(())
    }

    /// Closes a collection, so that it is reopened at its next use.
    fn let_go(&mut self, name: &str, collection: &Arc<Collection>) {
        if let Some(open) = self.collections.get(name)
            && Arc::ptr_eq(open, collection)
        {
            self.leaving.insert(name.to_owned(), collection.presence());
            self.collections.remove(name);
        }
    }

    /// Waits until the last query has released the closed collection. Two shards must not be open in one folder.
    fn wait_for_the_last_to_leave(&mut self, folder: &Path, name: &str) -> Result<(), IndexError> {
        let since = Stopwatch::start();
        while let Some(leaving) = self.leaving.get(name) {
            if leaving.strong_count() == 0 {
                self.leaving.remove(name);
            } else if since.elapsed() > LONGEST_LEAVING {
                return Err(home::failed(
                    folder,
                    "queries still use its former state; try again",
                ));
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl VectorIndex for EdgeIndex {
    async fn in_force(&self) -> Result<Option<String>, IndexError> {
        self.blocking(|shared| {
            let in_force = shared.with(|opened| {
                let Some(name) = opened.home.current().map(str::to_owned) else {
                    return Ok(None);
                };
                // An unreadable collection is not active.
                let collection = opened.collection(&shared.folder, &name)?;
                Ok(collection.map(|collection| (name, collection)))
            })?;
            let Some((name, collection)) = in_force else {
                return Ok(None);
            };
            match collection.prepare() {
                Ok(()) => Ok(Some(name)),
                Err(OpenError::Failed(error)) => Err(error),
                Err(OpenError::Damaged(problem)) => shared.with(|opened| {
                    opened.let_go(&name, &collection);
                    drop(collection);
                    opened.set_aside(&shared.folder, &name, &problem)?;
                    Ok(None)
                }),
            }
        })
        .await
    }

    async fn create(&self, collection: &str, dimensions: Option<usize>) -> Result<(), IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| {
            shared.with(|opened| opened.create(&shared.folder, &name, dimensions))
        })
        .await
    }

    async fn stored(&self, collection: &str) -> Result<Vec<Stored>, IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.collection(&name)?.stored())
            .await
    }

    async fn put(&self, collection: &str, points: Vec<Point>) -> Result<(), IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| match points.is_empty() {
            true => shared.collection(&name).map(drop),
            false => shared.change(&name, |collection| collection.put(points)),
        })
        .await
    }

    async fn remove(&self, collection: &str, ids: &[AssetId]) -> Result<(), IndexError> {
        let (name, ids) = (collection.to_owned(), ids.to_vec());
        self.blocking(move |shared| match ids.is_empty() {
            true => shared.collection(&name).map(drop),
            false => shared.change(&name, |collection| collection.remove(&ids)),
        })
        .await
    }

    async fn settle(&self, collection: &str) -> Result<(), IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.change(&name, Collection::settle))
            .await
    }

    async fn put_in_force(&self, collection: &str) -> Result<(), IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| {
            shared.with(|opened| opened.put_in_force(&shared.folder, &name))
        })
        .await
    }

    async fn look_up(&self, collection: &str, lookup: Lookup) -> Result<Hits, IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.collection(&name)?.look_up(&lookup))
            .await
    }
}
