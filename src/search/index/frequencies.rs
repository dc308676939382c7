//! Document frequencies over granted assets: a rare word weighs more than a common one.
//!
//! Frequencies over all assets would reveal information about other tenants: the words that they use, and when they
//! add assets. So frequencies are counted per granted set, from posting lists in memory. An asset that changes gets a
//! new slot at the end of the lists. Its former slot stays empty until the lists are compacted.

use std::collections::HashMap;

use super::vector_index::WordVector;
use crate::catalog::VisibleAssets;
use crate::model::AssetId;

/// The number of empty slots that is always tolerated.
const TOLERATED_EMPTY_SLOTS: usize = 1_000;

/// The posting lists of all words.
#[derive(Debug, Default)]
pub(super) struct DocumentFrequencies {
    /// The slot of each asset that has words.
    slots: HashMap<AssetId, u32>,
    /// The posting list of each word, including empty slots.
    postings: HashMap<u32, Vec<u32>>,
    /// The slots in use.
    used_slots: SlotSet,
    /// The first slot that was never used.
    next_slot: u32,
    /// The number of changes so far.
    changes: u64,
}

/// A set of slots, as a bitmap.
#[derive(Debug, Clone, Default)]
struct SlotSet(Vec<u64>);

impl SlotSet {
    fn put(&mut self, place: u32) {
        let (at, bit) = (place as usize / 64, place % 64);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << bit;
        }
    }

    fn remove(&mut self, place: u32) {
        if let Some(word) = self.0.get_mut(place as usize / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    fn has(&self, place: u32) -> bool {
        let word = self.0.get(place as usize / 64).copied().unwrap_or(0);
        word >> (place % 64) & 1 == 1
    }
}

/// The granted assets that have words.
#[derive(Debug)]
pub(super) struct GrantedSlots {
    slots: SlotSet,
    count: usize,
    /// The number of changes when the set was computed.
    changes: u64,
}

impl DocumentFrequencies {
    /// Sets the words of an asset, replacing its former ones.
    pub fn put(&mut self, id: AssetId, words: &[u32]) {
        self.remove(id);
        if words.is_empty() {
            return;
        }
        let place = self.next_slot;
        self.next_slot += 1;
        self.slots.insert(id, place);
        self.used_slots.put(place);
        for word in words {
            self.postings.entry(*word).or_default().push(place);
        }
        self.changes += 1;
    }

    /// Removes an asset.
    pub fn remove(&mut self, id: AssetId) {
        let Some(place) = self.slots.remove(&id) else {
            return;
        };
        self.used_slots.remove(place);
        self.changes += 1;
        if self.next_slot as usize > 2 * self.slots.len() + TOLERATED_EMPTY_SLOTS {
            self.compact();
        }
    }

    /// Compacts the slots: assets move to the first slots, in the same order.
    fn compact(&mut self) {
        let mut moved = vec![0; self.next_slot as usize];
        let mut next = 0;
        for (from, to) in (0..self.next_slot).zip(&mut moved) {
            if self.used_slots.has(from) {
                *to = next;
                next += 1;
            }
        }
        let target = |place: u32| moved.get(place as usize).copied().unwrap_or(0);
        let taken = &self.used_slots;
        self.postings.retain(|_, who| {
            who.retain(|place| taken.has(*place));
            for place in who.iter_mut() {
                *place = target(*place);
            }
            who.shrink_to_fit();
            !who.is_empty()
        });
        for place in self.slots.values_mut() {
            *place = target(*place);
        }
        self.used_slots = SlotSet::default();
        for place in 0..next {
            self.used_slots.put(place);
        }
        self.next_slot = next;
    }

    /// Returns the granted assets among those that have words.
    pub fn granted(&self, visible: &VisibleAssets) -> GrantedSlots {
        let places = match visible {
            VisibleAssets::All => self.used_slots.clone(),
            VisibleAssets::Only(ids) => {
                let mut places = SlotSet::default();
                for place in ids.iter().filter_map(|id| self.slots.get(id)) {
                    places.put(*place);
                }
                places
            }
        };
        GrantedSlots {
            count: places.0.iter().map(|word| word.count_ones() as usize).sum(),
            slots: places,
            changes: self.changes,
        }
    }

    /// Whether nothing has changed since `granted` was computed.
    pub fn is_current(&self, granted: &GrantedSlots) -> bool {
        self.changes == granted.changes
    }

    /// Returns the words of a query, each with its weight times its inverse document frequency among the granted
    /// assets: `ln(1 + (N − n + ½) / (n + ½))`, where `N` assets have words and `n` have this word.
    pub fn apply_idf(&self, query: &WordVector, granted: &GrantedSlots) -> WordVector {
        let all = granted.count as f64;
        let weights = query
            .dimensions
            .iter()
            .zip(&query.weights)
            .map(|(word, weight)| {
                let who = self.postings.get(word).map_or(&[] as &[u32], Vec::as_slice);
                let some = who
                    .iter()
                    .filter(|place| granted.slots.has(**place))
                    .count() as f64;
                let idf = (1.0 + (all - some + 0.5) / (some + 0.5)).ln();
                (f64::from(*weight) * idf) as f32
            });
        WordVector {
            weights: weights.collect(),
            dimensions: query.dimensions.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> AssetId {
        AssetId::from_bytes([number; 16])
    }

    fn query() -> WordVector {
        WordVector {
            dimensions: (0..6).collect(),
            weights: vec![1.0; 6],
        }
    }

    proptest! {
        #[test]
        fn apply_idf_after_random_changes_matches_counting(
            steps in prop::collection::vec((0u8..12, prop::option::of(prop::collection::btree_set(0u32..6, 0..5))), 0..80),
            granted in prop::collection::btree_set(0u8..12, 0..12),
            close_up in any::<bool>(),
        ) {
            let mut frequencies = DocumentFrequencies::default();
            let mut expected: HashMap<u8, Vec<u32>> = HashMap::new();
            for (number, words) in steps {
                let words: Option<Vec<u32>> = words.map(|words| words.into_iter().collect());
                match words {
                    Some(words) => {
                        frequencies.put(id(number), &words);
                        expected.insert(number, words);
                    }
                    None => {
                        frequencies.remove(id(number));
                        expected.remove(&number);
                    }
                }
            }
            if close_up {
                frequencies.compact();
            }
            expected.retain(|_, words| !words.is_empty());
            for visible in [VisibleAssets::All, VisibleAssets::Only(granted.iter().map(|number| id(*number)).collect())] {
                let found = frequencies.apply_idf(&query(), &frequencies.granted(&visible));
                let mine: Vec<_> = expected.iter().filter(|(number, _)| visible.contains(id(**number))).collect();
                for (word, weight) in found.dimensions.iter().zip(found.weights) {
                    let some = mine.iter().filter(|(_, words)| words.contains(word)).count() as f32;
                    let idf = ((mine.len() as f32 - some + 0.5) / (some + 0.5) + 1.0).ln();
                    prop_assert!((idf - weight).abs() < 1e-5, "{word}: {idf} {weight}");
                }
            }
        }
    }

    #[test]
    fn put_compacts_empty_slots_and_outdates_granted() {
        let mut frequencies = DocumentFrequencies::default();
        frequencies.put(id(1), &[7]);
        let before = frequencies.granted(&VisibleAssets::All);
        assert!(frequencies.is_current(&before));
        for _ in 0..3 * TOLERATED_EMPTY_SLOTS {
            frequencies.put(id(2), &[7, 8]);
        }
        assert!(!frequencies.is_current(&before));
        assert!((frequencies.next_slot as usize) < 2 * TOLERATED_EMPTY_SLOTS);
        assert_eq!(frequencies.granted(&VisibleAssets::All).count, 2);
    }
}
