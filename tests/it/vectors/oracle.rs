//! The expected results of an index, by comparing every point with the query.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fastrand::Rng;
use plantlake::catalog::VisibleAssets;
use plantlake::model::AssetId;
use plantlake::search::index::{Hits, IndexQuery, Point, WordVector};

/// The number of dimensions of embeddings in most tests.
pub const DIMENSIONS: usize = 8;

/// Returns the id of the asset with this number.
pub fn id(number: usize) -> AssetId {
    // Scattered, so that the order of ids differs from that of the numbers.
    let scattered = (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    AssetId::from_bytes(scattered.to_be_bytes())
}

/// Returns a sparse vector of these words, each with its weight.
pub fn sparse(words: &[(u32, f32)]) -> WordVector {
    WordVector {
        dimensions: words.iter().map(|(word, _)| *word).collect(),
        weights: words.iter().map(|(_, weight)| *weight).collect(),
    }
}

/// Scales a vector to length 1.
pub fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    for x in &mut vector {
        *x /= length;
    }
    vector
}

/// Returns a random direction.
pub fn direction(rng: &mut Rng, dimensions: usize) -> Vec<f32> {
    unit((0..dimensions).map(|_| rng.f32() - 0.5).collect())
}

/// Returns some words of a small vocabulary, of which the first are common. There are few different weights, so that
/// ties are common.
pub fn words(rng: &mut Rng, most: usize) -> WordVector {
    let mut found = BTreeMap::new();
    for _ in 0..rng.usize(0..=most) {
        let word = (rng.f32() * rng.f32() * 40.0) as u32;
        found.insert(word * 7919, [0.5, 1.0, 1.7][rng.usize(0..3)]);
    }
    sparse(&found.into_iter().collect::<Vec<_>>())
}

/// Returns a random point; most points have an embedding, and most have words.
pub fn point(rng: &mut Rng, number: usize, dimensions: usize) -> Point {
    Point {
        id: id(number),
        embedding: (rng.u8(0..8) > 0).then(|| direction(rng, dimensions)),
        words: words(rng, 8),
        hash: rng.u64(..),
    }
}

/// Returns a grant of these assets only.
pub fn only(numbers: impl IntoIterator<Item = usize>) -> Arc<VisibleAssets> {
    let mut ids: Vec<AssetId> = numbers.into_iter().map(id).collect();
    ids.sort_unstable();
    Arc::new(VisibleAssets::Only(ids))
}

/// The points that an index should have.
#[derive(Debug, Default, Clone)]
pub struct World(pub BTreeMap<AssetId, Point>);

impl World {
    /// Inserts or replaces points.
    pub fn put(&mut self, points: &[Point]) {
        self.0
            .extend(points.iter().map(|point| (point.id, point.clone())));
    }

    fn granted(&self, visible: &VisibleAssets) -> Vec<&Point> {
        let granted = self.0.values();
        granted.filter(|point| visible.contains(point.id)).collect()
    }

    /// Returns all granted points with an embedding, the nearest first.
    pub fn by_meaning(&self, meaning: &[f32], visible: &VisibleAssets) -> Vec<(AssetId, f32)> {
        let score = |point: &&Point| {
            let pairs = point.embedding.as_ref()?.iter().zip(meaning);
            let cosine: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            Some((point.id, cosine as f32))
        };
        sorted(self.granted(visible).iter().filter_map(score).collect())
    }

    /// Returns all granted points that share a word with the query, the best first.
    pub fn by_words(&self, query: &WordVector, visible: &VisibleAssets) -> Vec<(AssetId, f32)> {
        let mut granted = self.granted(visible);
        granted.retain(|point| !point.words.dimensions.is_empty());
        let all = granted.len() as f64;
        let has = |point: &Point, word: u32| {
            let at = point.words.dimensions.iter().position(|it| *it == word)?;
            Some(f64::from(point.words.weights[at]))
        };
        let words: Vec<(u32, f64)> = query
            .dimensions
            .iter()
            .zip(&query.weights)
            .map(|(word, weight)| {
                let some = granted
                    .iter()
                    .filter(|point| has(point, *word).is_some())
                    .count() as f64;
                let idf = ((all - some + 0.5) / (some + 0.5) + 1.0).ln();
                (*word, f64::from(*weight) * idf)
            })
            .collect();
        let score = |point: &&Point| {
            let shared = words
                .iter()
                .filter_map(|(word, weight)| Some(has(point, *word)? * weight));
            let shared: Vec<f64> = shared.collect();
            (!shared.is_empty()).then(|| (point.id, shared.iter().sum::<f64>() as f32))
        };
        sorted(granted.iter().filter_map(score).collect())
    }

    /// Checks the results of a search.
    #[track_caller]
    pub fn check(&self, lookup: &IndexQuery, hits: &Hits) {
        let meaning = lookup.embedding.as_ref();
        let by_meaning = meaning.map(|meaning| self.by_meaning(meaning, &lookup.granted));
        same(
            &hits.by_embedding,
            by_meaning.unwrap_or_default(),
            lookup.limit,
        );
        same(
            &hits.by_words,
            self.by_words(&lookup.words, &lookup.granted),
            lookup.limit,
        );
    }
}

fn sorted(mut scores: Vec<(AssetId, f32)>) -> Vec<(AssetId, f32)> {
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scores
}

/// Checks that `found` is the first `limit` of `expected`, up to rounding.
#[track_caller]
fn same(found: &[(AssetId, f32)], expected: Vec<(AssetId, f32)>, limit: usize) {
    let close = |a: f32, b: f32| (a - b).abs() < 1e-4 * b.abs().max(1.0);
    assert_eq!(
        found.len(),
        expected.len().min(limit),
        "{found:?}\n{expected:?}"
    );
    let scores: BTreeMap<AssetId, f32> = expected.iter().copied().collect();
    let mut seen = HashSet::new();
    for (place, (id, score)) in found.iter().enumerate() {
        assert!(seen.insert(*id), "{id} twice");
        let right = scores
            .get(id)
            .unwrap_or_else(|| panic!("{id} must not be found"));
        assert!(close(*score, *right), "{id} has {score}, not {right}");
        let there = expected[place].1;
        assert!(close(*score, there), "at {place} is {score}, not {there}");
    }
    for pair in found.windows(2) {
        let is_sorted = pair[0].1 > pair[1].1 || pair[0].1 == pair[1].1 && pair[0].0 < pair[1].0;
        assert!(is_sorted, "{pair:?}");
    }
}
