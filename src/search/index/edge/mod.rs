//! The embedded index: Qdrant's engine as a library, in a folder that one process locks.
//!
//! Every call blocks, and runs on a blocking thread. The folder is a cache of the catalog: unreadable collections are
//! set aside and rebuilt.
//!
//! | file | contents |
//! |---|---|
//! | `index_folder` | the folder: its lock, its collections and which of them is active |
//! | `collection` | updates of and queries to a collection, and its caches in memory |
//! | `shard` | Qdrant's engine, and the requirements that it puts on its caller |

mod collection;
mod index_folder;
mod shard;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::error::IndexError;
use super::vector_index::{Hits, IndexQuery, Point, StoredPoint, VectorIndex};
use crate::clock::Stopwatch;
use crate::model::AssetId;
use collection::{Collection, OpenError};
use index_folder::IndexFolder;

/// The maximum wait for queries that still use a closed collection. They usually take milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// An index in a local folder.
#[derive(Debug)]
pub struct EdgeIndex {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// None until the first use.
    opened: Mutex<Option<OpenIndex>>,
}

#[derive(Debug)]
struct OpenIndex {
    collections: HashMap<String, Arc<Collection>>,
    /// Closed collections that queries may still use.
    closing: HashMap<String, Weak<()>>,
    index_folder: IndexFolder,
}

impl EdgeIndex {
    /// Creates an index in this folder, which need not exist. The folder is read and locked at the first use.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let folder =
            std::path::absolute(folder).map_err(|error| index_folder::failed(folder, error))?;
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
            Err(index_folder::failed(
                &self.shared.folder,
                "the operation was interrupted before it completed",
            ))
        })
    }
}

impl Shared {
    fn opened(&self) -> MutexGuard<'_, Option<OpenIndex>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut OpenIndex) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut opened = self.opened();
        let opened = match &mut *opened {
            Some(opened) => opened,
            nothing => nothing.insert(OpenIndex {
                collections: HashMap::new(),
                closing: HashMap::new(),
                index_folder: IndexFolder::open(&self.folder)?,
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
                opened.close(name, &collection);
            }
        }
        done
    }
}

impl OpenIndex {
    /// Returns a collection, opening it if necessary; none if it does not exist or is damaged.
    fn collection(
        &mut self,
        folder: &Path,
        name: &str,
    ) -> Result<Option<Arc<Collection>>, IndexError> {
        if let Some(open) = self.collections.get(name) {
            return Ok(Some(Arc::clone(open)));
        }
        if !self.index_folder.contains(name) {
            return Ok(None);
        }
        self.wait_until_closed(folder, name)?;
        match Collection::open(&self.index_folder, folder, name, None) {
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
        if self.collections.contains_key(name) || !self.index_folder.contains(name) {
            // Another caller has already done so.
            return Ok(());
        }
        self.wait_until_closed(folder, name)?;
        let aside = self.index_folder.set_aside(name)?;
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
        self.wait_until_closed(folder, name)?;
        self.index_folder.create(name)?;
        match Collection::open(&self.index_folder, folder, name, Some(dimensions)) {
            Ok(collection) => {
                self.collections
                    .insert(name.to_owned(), Arc::new(collection));
                Ok(())
            }
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Damaged(problem)) => Err(index_folder::failed(folder, problem)),
        }
    }

    fn activate(&mut self, folder: &Path, name: &str) -> Result<(), IndexError> {
        if self.collection(folder, name)?.is_none() {
            return Err(IndexError::Missing {
                collection: name.to_owned(),
            });
        }
        self.index_folder.activate(name)?;
        let others: Vec<String> = self
            .collections
            .keys()
            .filter(|other| *other != name)
            .cloned()
            .collect();
        for other in others {
            if let Some(collection) = self.collections.remove(&other) {
                collection.remove_folder_on_drop();
                self.closing.insert(other, collection.open_marker());
            }
        }
        let leaving = &self.closing;
        if let Err(error) = self
            .index_folder
            .remove_unneeded(|name| leaving.contains_key(name))
        {
            // The next process that locks the folder tries again.
            tracing::warn!(%error, "cannot remove a former search index");
        }
        Ok(())
    }

    /// Closes a collection, so that it is reopened at its next use.
    fn close(&mut self, name: &str, collection: &Arc<Collection>) {
        if let Some(open) = self.collections.get(name)
            && Arc::ptr_eq(open, collection)
        {
            self.closing
                .insert(name.to_owned(), collection.open_marker());
            self.collections.remove(name);
        }
    }

    /// Waits until the last query has released the closed collection. Two shards must not be open in one folder.
    fn wait_until_closed(&mut self, folder: &Path, name: &str) -> Result<(), IndexError> {
        let since = Stopwatch::start();
        while let Some(leaving) = self.closing.get(name) {
            if leaving.strong_count() == 0 {
                self.closing.remove(name);
            } else if since.elapsed() > CLOSE_TIMEOUT {
                return Err(index_folder::failed(
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
    async fn active_collection(&self) -> Result<Option<String>, IndexError> {
        self.blocking(|shared| {
            let in_force = shared.with(|opened| {
                let Some(name) = opened.index_folder.current().map(str::to_owned) else {
                    return Ok(None);
                };
                // An unreadable collection is not active.
                let collection = opened.collection(&shared.folder, &name)?;
                Ok(collection.map(|collection| (name, collection)))
            })?;
            let Some((name, collection)) = in_force else {
                return Ok(None);
            };
            match collection.count_frequencies() {
                Ok(()) => Ok(Some(name)),
                Err(OpenError::Failed(error)) => Err(error),
                Err(OpenError::Damaged(problem)) => shared.with(|opened| {
                    opened.close(&name, &collection);
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

    async fn stored_points(&self, collection: &str) -> Result<Vec<StoredPoint>, IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.collection(&name)?.stored_points())
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

    async fn optimise(&self, collection: &str) -> Result<(), IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.change(&name, Collection::optimise))
            .await
    }

    async fn activate(&self, collection: &str) -> Result<(), IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.with(|opened| opened.activate(&shared.folder, &name)))
            .await
    }

    async fn search(&self, collection: &str, lookup: IndexQuery) -> Result<Hits, IndexError> {
        let name = collection.to_owned();
        self.blocking(move |shared| shared.collection(&name)?.search(&lookup))
            .await
    }
}
