//! Updates of the index from the catalog. An asset is indexed again when the hash of its description changes.
//!
//! A pass first indexes the words, which is fast, so that searches work early. Embeddings follow in batches. Each
//! batch is durable before the next one begins, so an interrupted pass continues where it stopped. If the description
//! format or the model changes, the pass builds a new collection, which replaces the former one when it is complete.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::bm25;
use super::describe::{self, describe};
use super::error::SearchError;
use super::index::{Point, StoredPoint, VectorIndex};
use super::model_runner::ModelRunner;
use super::models::{BiEncoder, ModelError};
use crate::catalog::Snapshot;
use crate::model::AssetId;

/// The number of assets that are written to the index at once.
const BATCH_SIZE: usize = 256;
/// The number of changes above which a pass optimises the index.
const OPTIMISE_THRESHOLD: usize = 1_000;

/// The progress of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexProgress {
    /// The current stage.
    pub stage: IndexStage,
    /// The number of assets processed in this stage.
    pub done: usize,
    /// The number of assets to process in this stage.
    pub total: usize,
}

/// A stage of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexStage {
    /// Indexing words.
    Words,
    /// Computing embeddings.
    Meanings,
    /// Optimising the index.
    Settling,
}

/// The result of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexReport {
    /// The active collection.
    pub collection: String,
    /// The number of assets in the collection.
    pub assets: usize,
    /// The number of assets that were indexed because they were new, changed or without an embedding.
    pub indexed: usize,
    /// The number of assets that were removed because the catalog does not contain them.
    pub removed: usize,
    /// Whether the index has embeddings, rather than words only.
    pub has_meanings: bool,
}

/// A collection that can be searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadyCollection {
    pub collection: String,
    /// The model of the collection's embeddings, if they are complete.
    pub model: Option<String>,
}

/// Returns the name of a collection, which consists of the versions of its descriptions and words and the hash of its
/// model.
pub(super) fn collection_name(model: Option<&str>) -> String {
    let model = model.map_or("words", |hash| hash.get(..16).unwrap_or(hash));
    format!("{}{model}", version_prefix())
}

fn version_prefix() -> String {
    format!("t{}w{}-", describe::VERSION, bm25::VERSION)
}

/// Whether a collection has descriptions and words of the current versions.
fn has_current_versions(collection: &str) -> bool {
    collection.starts_with(&version_prefix())
}

/// A pass of indexing.
pub(super) struct IndexPass<'a> {
    pub index: &'a dyn VectorIndex,
    pub runs: &'a ModelRunner,
    /// The model; none to index words only.
    pub model: Option<PassModel>,
    pub snapshot: &'a Snapshot,
    /// Whether to index all assets again.
    pub full: bool,
    /// Called with the progress.
    pub progress: &'a (dyn Fn(IndexProgress) + Send + Sync),
    /// Called when a collection can be searched.
    pub ready: &'a (dyn Fn(ReadyCollection) + Send + Sync),
}

/// Loads a model, or returns the loaded one. Blocks.
pub(super) type ModelLoader =
    Arc<dyn Fn() -> Result<Option<Arc<BiEncoder>>, ModelError> + Send + Sync>;

/// The model of a pass.
pub(super) struct PassModel {
    /// The SHA-256 of the model's weights.
    pub fingerprint: String,
    /// Loads the model; called when the first text is embedded.
    pub load: ModelLoader,
    pub dimensions: usize,
}

/// An asset whose entry in the index is missing or outdated.
#[derive(Clone)]
struct Change {
    id: AssetId,
    text: String,
    hash: u64,
    /// Whether the index has an embedding of the asset, even if it is outdated.
    had_embedding: bool,
}

impl IndexPass<'_> {
    /// Updates the index.
    pub async fn run(self) -> Result<IndexReport, SearchError> {
        let in_force = self.index.active_collection().await?;
        let serving = in_force.filter(|serving| has_current_versions(serving));
        let name = self.collection(serving.as_deref());
        let dimensions = self.model.as_ref().map(|model| model.dimensions);
        self.index.create(&name, dimensions).await?;
        let stored = self.index.stored_points(&name).await?;
        let (changes, gone) = self.differences(&stored);
        if !gone.is_empty() {
            self.index.remove(&name, &gone).await?;
        }
        let serves = serving.as_deref() == Some(&*name);
        if let Some(serving) = &serving {
            // Embeddings of another model are unusable here. Up to 1% of assets without an embedding is tolerated.
            let without = changes
                .iter()
                .filter(|change| !change.had_embedding)
                .count();
            let is_whole = serves && without * 100 <= self.snapshot.catalog().assets.len();
            (self.ready)(self.to_ready_collection(serving, is_whole));
        }
        if self.model.is_none() || serving.is_none() {
            self.index_words(&name, &changes).await?;
        } else if serves {
            // Assets without an embedding become searchable by words while the embeddings are computed.
            let new: Vec<Change> = changes
                .iter()
                .filter(|change| !change.had_embedding)
                .cloned()
                .collect();
            if new.len() > BATCH_SIZE {
                self.index_words(&name, &new).await?;
            }
        }
        if serving.is_none() {
            self.index.activate(&name).await?;
            (self.ready)(self.to_ready_collection(&name, false));
        }
        self.index_embeddings(&name, &changes).await?;
        if !serves || changes.len() > OPTIMISE_THRESHOLD {
            (self.progress)(IndexProgress {
                stage: IndexStage::Settling,
                done: 0,
                total: changes.len(),
            });
            self.index.optimise(&name).await?;
        }
        if !serves && serving.is_some() {
            self.index.activate(&name).await?;
        }
        (self.ready)(self.to_ready_collection(&name, true));
        Ok(IndexReport {
            collection: name,
            assets: self.snapshot.catalog().assets.len(),
            indexed: changes.len(),
            removed: gone.len(),
            has_meanings: self.model.is_some(),
        })
    }

    /// Returns the name of the collection to update. Without a model, the words of a collection with embeddings are
    /// reused.
    fn collection(&self, serving: Option<&str>) -> String {
        match (&self.model, serving) {
            (None, Some(serving)) => serving.to_owned(),
            (model, _) => collection_name(model.as_ref().map(|model| &*model.fingerprint)),
        }
    }

    fn to_ready_collection(&self, collection: &str, has_meanings: bool) -> ReadyCollection {
        let model = self.model.as_ref().filter(|_| has_meanings);
        ReadyCollection {
            collection: collection.to_owned(),
            model: model.map(|model| model.fingerprint.clone()),
        }
    }

    /// Returns the assets to index and the ids to remove.
    fn differences(&self, stored: &[StoredPoint]) -> (Vec<Change>, Vec<AssetId>) {
        let known: HashMap<AssetId, &StoredPoint> =
            stored.iter().map(|stored| (stored.id, stored)).collect();
        let needs_meaning = self.model.is_some();
        let mut changes = Vec::new();
        for asset in &self.snapshot.catalog().assets {
            let text = describe(asset);
            let hash = XxHash64::oneshot(0, text.as_bytes());
            let stored = known.get(&asset.id);
            let had_meaning = stored.is_some_and(|stored| stored.has_embedding);
            let is_current =
                stored.is_some_and(|stored| stored.hash == hash) && (had_meaning || !needs_meaning);
            if self.full || !is_current {
                changes.push(Change {
                    id: asset.id,
                    text,
                    hash,
                    had_embedding: had_meaning,
                });
            }
        }
        let gone = stored.iter().map(|stored| stored.id);
        let gone = gone.filter(|id| self.snapshot.asset(*id).is_none());
        (changes, gone.collect())
    }

    /// Indexes words. An interrupted pass may already have indexed some of them; repeating that is cheap.
    async fn index_words(&self, name: &str, changes: &[Change]) -> Result<(), SearchError> {
        self.in_batches(IndexStage::Words, name, changes, |batch| async move {
            Ok(vec![None; batch.len()])
        })
        .await
    }

    async fn index_embeddings(&self, name: &str, changes: &[Change]) -> Result<(), SearchError> {
        let Some(model) = &self.model else {
            return Ok(());
        };
        self.in_batches(IndexStage::Meanings, name, changes, |batch| async move {
            let load = Arc::clone(&model.load);
            let texts: Vec<String> = batch.iter().map(|change| change.text.clone()).collect();
            let meanings = self.runs.run(move |stop| {
                let encoder = load()?.ok_or(ModelError::Cancelled)?;
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
        for batch in changes.chunks(BATCH_SIZE) {
            let meanings = meanings(batch).await?;
            let points = batch.iter().zip(meanings).map(|(change, meaning)| Point {
                id: change.id,
                embedding: meaning,
                words: bm25::text_vector(&change.text),
                hash: change.hash,
            });
            self.index.put(name, points.collect()).await?;
            done += batch.len();
            (self.progress)(IndexProgress { stage, done, total });
        }
        Ok(())
    }
}
