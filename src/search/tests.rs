//! Tests of passes and searches without a model, over an index of maps in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;

use super::index::{Hits, IndexError, IndexQuery, Point, StoredPoint, VectorIndex};
use super::models::{ModelSettings, Models};
use super::*;
use crate::catalog::{Asset, Catalog, Snapshot, Specifications, VisibleAssets};
use crate::model::AssetId;

/// An index in memory. It fails after a given number of changes, as if the process had been killed.
#[derive(Debug, Default)]
struct MapIndex {
    collections: Mutex<HashMap<String, BTreeMap<AssetId, Point>>>,
    in_force: Mutex<Option<String>>,
    /// The number of changes before it fails; `usize::MAX` for no failure.
    left: AtomicUsize,
}

impl MapIndex {
    fn change(&self) -> Result<(), IndexError> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(IndexError::Local {
                folder: "memory".to_owned(),
                problem: "it was killed".to_owned(),
            });
        }
        if left != usize::MAX {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn points(&self, collection: &str) -> BTreeMap<AssetId, Point> {
        self.collections.lock().unwrap()[collection].clone()
    }
}

#[async_trait]
impl VectorIndex for MapIndex {
    async fn active_collection(&self) -> Result<Option<String>, IndexError> {
        Ok(self.in_force.lock().unwrap().clone())
    }

    async fn create(&self, collection: &str, _: Option<usize>) -> Result<(), IndexError> {
        self.change()?;
        let mut collections = self.collections.lock().unwrap();
        collections.entry(collection.to_owned()).or_default();
        Ok(())
    }

    async fn stored_points(&self, collection: &str) -> Result<Vec<StoredPoint>, IndexError> {
        let stored = |point: &Point| StoredPoint {
            id: point.id,
            hash: point.hash,
            has_embedding: point.embedding.is_some(),
        };
        Ok(self.points(collection).values().map(stored).collect())
    }

    async fn put(&self, collection: &str, points: Vec<Point>) -> Result<(), IndexError> {
        self.change()?;
        let mut collections = self.collections.lock().unwrap();
        let there = collections.get_mut(collection).unwrap();
        there.extend(points.into_iter().map(|point| (point.id, point)));
        Ok(())
    }

    async fn remove(&self, collection: &str, ids: &[AssetId]) -> Result<(), IndexError> {
        self.change()?;
        let mut collections = self.collections.lock().unwrap();
        let there = collections.get_mut(collection).unwrap();
        there.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    async fn optimise(&self, _: &str) -> Result<(), IndexError> {
        self.change()
    }

    async fn activate(&self, collection: &str) -> Result<(), IndexError> {
        self.change()?;
        *self.in_force.lock().unwrap() = Some(collection.to_owned());
        let mut collections = self.collections.lock().unwrap();
        collections.retain(|name, _| name == collection);
        Ok(())
    }

    async fn search(&self, collection: &str, lookup: IndexQuery) -> Result<Hits, IndexError> {
        let points = self.points(collection);
        let granted: Vec<_> = points
            .values()
            .filter(|point| lookup.granted.contains(point.id))
            .collect();
        let weight = |point: &Point, dimension: &u32| {
            let at = point.words.dimensions.binary_search(dimension).ok()?;
            Some(f64::from(point.words.weights[at]))
        };
        let count = granted.len() as f64;
        let mut scores: BTreeMap<AssetId, f64> = BTreeMap::new();
        for (dimension, times) in lookup.words.dimensions.iter().zip(&lookup.words.weights) {
            let with: Vec<_> = granted
                .iter()
                .filter_map(|point| Some((point.id, weight(point, dimension)?)))
                .collect();
            let frequency = with.len() as f64;
            let idf = ((count - frequency + 0.5) / (frequency + 0.5) + 1.0).ln();
            for (id, weight) in with {
                *scores.entry(id).or_default() += f64::from(*times) * idf * weight;
            }
        }
        let mut by_words: Vec<_> = scores
            .into_iter()
            .map(|(id, score)| (id, score as f32))
            .collect();
        by_words.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        by_words.truncate(lookup.limit);
        Ok(Hits {
            by_embedding: Vec::new(),
            by_words,
        })
    }
}

fn id(number: u8) -> AssetId {
    AssetId::from_bytes([number; 16])
}

/// Returns a catalog of these assets, by number and name.
fn snapshot(assets: &BTreeMap<u8, String>) -> Arc<Snapshot> {
    let assets = assets.iter().map(|(number, name)| Asset {
        id: id(*number),
        name: name.clone(),
        kind: "pump".to_owned(),
        location: String::new(),
        specifications: Specifications::default(),
    });
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog {
        assets: assets.collect(),
        ..Catalog::default()
    };
    catalog.write(folder.path()).unwrap();
    Arc::new(Snapshot::read(folder.path()).unwrap())
}

fn search_in(index: &Arc<MapIndex>) -> Search {
    // The folder does not exist, so there is no model.
    let models = Models::new(ModelSettings {
        folder: "no-such-folder".into(),
        bi_encoder: "none/none".to_owned(),
        cross_encoder: "none/none".to_owned(),
    });
    Search::new(models, Arc::clone(index) as _, true)
}

fn ask(text: &str, granted: VisibleAssets) -> SearchRequest {
    SearchRequest {
        text: text.to_owned(),
        limit: 10,
        granted: Arc::new(granted),
        by: None,
    }
}

fn names(numbers: impl IntoIterator<Item = (u8, &'static str)>) -> BTreeMap<u8, String> {
    numbers
        .into_iter()
        .map(|(number, name)| (number, name.to_owned()))
        .collect()
}

#[tokio::test]
async fn search_without_model_ranks_by_bm25() {
    let index = Arc::new(MapIndex {
        left: usize::MAX.into(),
        ..MapIndex::default()
    });
    let search = search_in(&index);
    let plant = snapshot(&names([
        (1, "feed pump"),
        (2, "reflux pump"),
        (3, "feed tank"),
    ]));
    let found = search
        .search(&ask("feed of the tanks", VisibleAssets::All), &plant)
        .await
        .unwrap();
    let order: Vec<_> = found
        .iter()
        .map(|found| (found.id, found.rank, found.ranked_by))
        .collect();
    assert_eq!(
        order,
        [
            (id(3), 1, RankingMethod::Bm25),
            (id(1), 2, RankingMethod::Bm25)
        ]
    );
    assert!(found.iter().all(|found| found.similarity.is_none()));
    assert!(!search.has_embeddings());

    let some = search
        .search(&ask("feed", VisibleAssets::Only(vec![id(1)])), &plant)
        .await
        .unwrap();
    assert_eq!(
        some.iter().map(|found| found.id).collect::<Vec<_>>(),
        [id(1)]
    );
    let none = search
        .search(&ask("feed", VisibleAssets::Only(Vec::new())), &plant)
        .await
        .unwrap();
    assert!(none.is_empty());

    let by = SearchRequest {
        by: Some(RankingMethod::Hybrid),
        ..ask("feed", VisibleAssets::All)
    };
    let error = search.search(&by, &plant).await.unwrap_err().to_string();
    assert!(error.contains("models fetch"), "{error}");
    for (text, limit) in [("", 1), (" ", 1), ("x", 0), ("x", MAX_RESULTS + 1)] {
        let wrong = SearchRequest {
            limit,
            ..ask(text, VisibleAssets::All)
        };
        let error = search.search(&wrong, &plant).await.unwrap_err();
        assert!(matches!(error, SearchError::Input(_)), "{error}");
    }
}

#[tokio::test]
async fn search_after_failed_index_build_succeeds_on_retry() {
    let index = Arc::new(MapIndex::default());
    let search = search_in(&index);
    let plant = snapshot(&names([(1, "feed pump")]));
    let error = search
        .search(&ask("feed", VisibleAssets::All), &plant)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it was killed"), "{error}");
    index.left.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(
        search
            .search(&ask("feed", VisibleAssets::All), &plant)
            .await
            .unwrap()
            .len(),
        1
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// After any changes of the catalog and any interruption of a pass, the next pass completes the index of the
    /// catalog.
    #[test]
    fn pass_after_interruption_completes_the_catalogs_index(
        steps in prop::collection::vec(
            (prop::collection::btree_map(0_u8..40, "(feed|reflux) (pump|tank) [0-3]", 0..30), any::<bool>(), 0_usize..6),
            1..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let index = Arc::new(MapIndex { left: usize::MAX.into(), ..MapIndex::default() });
            for (assets, full, killed_after) in steps {
                let plant = snapshot(&assets);
                index.left.store(killed_after, Ordering::Relaxed);
                let _ = search_in(&index).index(&plant, full, &|_| {}).await;
                index.left.store(usize::MAX, Ordering::Relaxed);
                let report = search_in(&index).index(&plant, false, &|_| {}).await.unwrap();
                let points = index.points(&report.collection);
                let known: HashSet<AssetId> = assets.keys().map(|number| id(*number)).collect();
                assert_eq!(points.keys().copied().collect::<HashSet<_>>(), known);
                for (number, name) in &assets {
                    let words = bm25::text_vector(&format!("{name}: pump."));
                    assert_eq!(points[&id(*number)].words, words);
                }
                let again = search_in(&index).index(&plant, false, &|_| {}).await.unwrap();
                assert_eq!((again.indexed, again.removed), (0, 0));
            }
        });
    }
}
