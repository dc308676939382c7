//! How the index follows the catalog: what changed is described and embedded again, by the hash of its description.
//!
//! A pass first sees to the words, which takes moments, so that there is something to search in; meanings follow in batches.
//! Each batch is there to stay before the next begins, so an interrupted pass goes on where it stopped. Where the texts or
//! the model are others than before, a new collection is made, and takes the former one's place when it is whole.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::describe::{self, describe};
use super::error::SearchError;
use super::index::{Point, Stored, VectorIndex};
use super::models::{BiEncoder, ModelError};
use super::searcher::{ModelRuns, Ready};
use super::words;
use crate::catalog::Snapshot;
use crate::model::AssetId;

/// Assets that are put into the index at once.
const BATCH: usize = 256;
/// After so many changes the index is made fast anew.
const MANY: usize = 1_000;

/// How far a pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexProgress {
    /// What is being done.
    pub stage: IndexStage,
    /// Assets that are done,
    pub done: usize,
    /// of so many.
    pub total: usize,
}

/// What a pass is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexStage {
    /// Words are put in.
    Words,
    /// Texts are embedded.
    Meanings,
    /// The index is made fast.
    Settling,
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexReport {
    /// The collection that is in force.
    pub collection: String,
    /// Assets in it.
    pub assets: usize,
    /// Those that were put in: they were new, changed, or had no meaning yet.
    pub indexed: usize,
    /// Those that were removed: the catalog has them no more.
    pub removed: usize,
    /// Whether there are meanings to search in, or words only.
    pub has_meanings: bool,
}

/// What a collection is called: by the forms of its texts and words, and the model of its meanings.
pub(super) fn collection_name(model: Option<&str>) -> String {
    let model = model.map_or("words", |hash| hash.get(..16).unwrap_or(hash));
    format!("{}{model}", forms())
}

fn forms() -> String {
    format!("t{}w{}-", describe::VERSION, words::VERSION)
}

/// Whether a collection has words of today's form.
fn has_these_words(collection: &str) -> bool {
    collection.starts_with(&forms())
}

/// One pass.
pub(super) struct Pass<'a> {
    pub index: &'a dyn VectorIndex,
    pub runs: &'a ModelRuns,
    /// None: words only.
    pub model: Option<Model>,
    pub snapshot: &'a Snapshot,
    /// Whether everything is to be done again.
    pub full: bool,
    /// Is told how far it is,
    pub progress: &'a (dyn Fn(IndexProgress) + Send + Sync),
    /// and what can be searched in from now on.
    pub ready: &'a (dyn Fn(Ready) + Send + Sync),
}

/// Loads a model, or gives the one that is loaded. Blocks.
pub(super) type Load = Arc<dyn Fn() -> Result<Option<Arc<BiEncoder>>, ModelError> + Send + Sync>;

/// The model of a pass.
pub(super) struct Model {
    /// Tells which it is.
    pub fingerprint: String,
    /// Loads it, at the first text that is to be embedded.
    pub load: Load,
    pub dimensions: usize,
}

/// An asset that the index does not have as it is now.
#[derive(Clone)]
struct Change {
    id: AssetId,
    text: String,
    hash: u64,
    /// Whether the index knows what it means, or meant.
    had_meaning: bool,
}

impl Pass<'_> {
    /// Brings the index up to date.
    pub async fn run(self) -> Result<IndexReport, SearchError> {
        let in_force = self.index.in_force().await?;
        let serving = in_force.filter(|serving| has_these_words(serving));
        let name = self.collection(serving.as_deref());
        let dimensions = self.model.as_ref().map(|model| model.dimensions);
        self.index.create(&name, dimensions).await?;
        let stored = self.index.stored(&name).await?;
        let (changes, gone) = self.differences(&stored);
        if !gone.is_empty() {
            self.index.remove(&name, &gone).await?;
        }
        let serves = serving.as_deref() == Some(&*name);
        if let Some(serving) = &serving {
            // What was made by another model has meanings that are no use here.
            let without = changes.iter().filter(|change| !change.had_meaning).count();
            let is_whole = serves && without * 100 <= self.snapshot.catalog().assets.len();
            (self.ready)(self.ready_with(serving, is_whole));
        }
        if self.model.is_none() || serving.is_none() {
            self.put_words(&name, &changes).await?;
        } else if serves {
            // What has no meaning yet, can be found by its words at least while others are embedded.
            let new: Vec<Change> = changes
                .iter()
                .filter(|change| !change.had_meaning)
                .cloned()
                .collect();
            if new.len() > BATCH {
                self.put_words(&name, &new).await?;
            }
        }
        if serving.is_none() {
            self.index.put_in_force(&name).await?;
            (self.ready)(self.ready_with(&name, false));
        }
        self.put_meanings(&name, &changes).await?;
        if !serves || changes.len() > MANY {
            (self.progress)(IndexProgress {
                stage: IndexStage::Settling,
                done: 0,
                total: changes.len(),
            });
            self.index.settle(&name).await?;
        }
        if !serves && serving.is_some() {
            self.index.put_in_force(&name).await?;
        }
        (self.ready)(self.ready_with(&name, true));
        Ok(IndexReport {
            collection: name,
            assets: self.snapshot.catalog().assets.len(),
            indexed: changes.len(),
            removed: gone.len(),
            has_meanings: self.model.is_some(),
        })
    }

    /// The collection to bring up to date. Without a model, one that others made with theirs is good for its words.
    fn collection(&self, serving: Option<&str>) -> String {
        match (&self.model, serving) {
            (None, Some(serving)) => serving.to_owned(),
            (model, _) => collection_name(model.as_ref().map(|model| &*model.fingerprint)),
        }
    }

    fn ready_with(&self, collection: &str, has_meanings: bool) -> Ready {
        let model = self.model.as_ref().filter(|_| has_meanings);
        Ready {
            collection: collection.to_owned(),
            model: model.map(|model| model.fingerprint.clone()),
        }
    }

    /// What is to be put in, and what to be removed.
    fn differences(&self, stored: &[Stored]) -> (Vec<Change>, Vec<AssetId>) {
        let known: HashMap<AssetId, &Stored> =
            stored.iter().map(|stored| (stored.id, stored)).collect();
        let needs_meaning = self.model.is_some();
        let mut changes = Vec::new();
        for asset in &self.snapshot.catalog().assets {
            let text = describe(asset);
            let hash = XxHash64::oneshot(0, text.as_bytes());
            let stored = known.get(&asset.id);
            let had_meaning = stored.is_some_and(|stored| stored.has_meaning);
            let is_current =
                stored.is_some_and(|stored| stored.hash == hash) && (had_meaning || !needs_meaning);
            if self.full || !is_current {
                changes.push(Change {
                    id: asset.id,
                    text,
                    hash,
                    had_meaning,
                });
            }
        }
        let gone = stored.iter().map(|stored| stored.id);
        let gone = gone.filter(|id| self.snapshot.asset(*id).is_none());
        (changes, gone.collect())
    }

    /// Puts words in. An interrupted pass may have put some in already; they are few moments' work.
    async fn put_words(&self, name: &str, changes: &[Change]) -> Result<(), SearchError> {
        self.in_batches(IndexStage::Words, name, changes, |batch| async move {
            Ok(vec![None; batch.len()])
        })
        .await
    }

    async fn put_meanings(&self, name: &str, changes: &[Change]) -> Result<(), SearchError> {
        let Some(model) = &self.model else {
            return Ok(());
        };
        self.in_batches(IndexStage::Meanings, name, changes, |batch| async move {
            let load = Arc::clone(&model.load);
            let texts: Vec<String> = batch.iter().map(|change| change.text.clone()).collect();
            let meanings = self.runs.run(move |stop| {
                let encoder = load()?.ok_or(ModelError::Stopped)?;
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                encoder.embed(&texts, stop)
            });
            Ok(meanings.await?.into_iter().map(Some).collect())
        })
        .await
    }

    async fn in_batches<'c, M: Future<Output = Result<Vec<Option<Vec<f32>>>, SearchError>>>(
        &self,
        stage: IndexStage,
        name: &str,
        changes: &'c [Change],
        meanings: impl Fn(&'c [Change]) -> M,
    ) -> Result<(), SearchError> {
        let total = changes.len();
        let mut done = 0;
        (self.progress)(IndexProgress { stage, done, total });
        for batch in changes.chunks(BATCH) {
            let meanings = meanings(batch).await?;
            let points = batch.iter().zip(meanings).map(|(change, meaning)| Point {
                id: change.id,
                meaning,
                words: words::of_text(&change.text),
                hash: change.hash,
            });
            self.index.put(name, points.collect()).await?;
            done += batch.len();
            (self.progress)(IndexProgress { stage, done, total });
        }
        Ok(())
    }
}
