//! A bounded cache of values that hold the tables of a publication. Values that are not used for a while are removed, because
//! their tables may have been replaced.

use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::clock::Stopwatch;

/// The share of the capacity for entries that were used repeatedly. The rest is for new ones: a plan is made in one call and
/// run in the next, so it must not leave before, even if all others are popular. No entry may weigh more than this share.
const POPULAR_SHARE: f64 = 0.5;

/// The limits of a cache.
#[derive(Debug, Clone, Copy)]
pub struct IdleCacheLimits {
    /// The maximum number of entries.
    pub entries: usize,
    /// The maximum weight of all entries together.
    pub weight: u64,
    /// The time after which an unused entry is removed.
    pub idle_timeout: Duration,
}

/// A value, and the time since its last use.
struct Entry<V> {
    value: V,
    weight: u64,
    used: Stopwatch,
}

/// Weighs entries by what they weighed when they were inserted.
#[derive(Clone)]
struct InsertedWeight;

impl<K, V> Weighter<K, Entry<V>> for InsertedWeight {
    fn weight(&self, _: &K, entry: &Entry<V>) -> u64 {
        entry.weight
    }
}

type Entries<K, V> = Cache<K, Entry<V>, InsertedWeight>;

/// A bounded cache whose unused entries are removed after a while.
pub struct IdleCache<K, V> {
    entries: Mutex<Entries<K, V>>,
    limits: IdleCacheLimits,
}

impl<K, V> fmt::Debug for IdleCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleCache")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<K: Eq + Hash, V: Clone> IdleCache<K, V> {
    /// Creates an empty cache.
    pub fn new(limits: IdleCacheLimits) -> Self {
        let (hashes, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let options = OptionsBuilder::new()
            .estimated_items_capacity(limits.entries)
            .weight_capacity(limits.weight)
            .hot_allocation(POPULAR_SHARE)
            .build();
        let entries = match options {
            Ok(options) => Cache::with_options(options, InsertedWeight, hashes, lifecycle),
            // Both capacities are set, so this is never the case.
            Err(_) => Cache::with(
                limits.entries,
                limits.weight,
                InsertedWeight,
                hashes,
                lifecycle,
            ),
        };
        Self {
            entries: Mutex::new(entries),
            limits,
        }
    }

    /// Inserts a value that weighs at most `weight`. Other entries leave to make room. A value that weighs more than half of
    /// the capacity is not cached.
    pub fn insert(&self, key: K, value: V, weight: u64) {
        let entry = Entry {
            value,
            // So that the maximum weight bounds the number of entries, too.
            weight: weight.max(self.limits.weight.div_ceil(self.limits.entries as u64)),
            used: Stopwatch::start(),
        };
        self.locked().insert(key, entry);
    }

    /// Returns the value of `key`, which counts as a use. A value that was idle for too long, or that is not `is_valid`, is
    /// removed instead.
    pub fn get(&self, key: &K, is_valid: impl FnOnce(&V) -> bool) -> Option<V> {
        let mut entries = self.locked();
        let mut entry = entries.get_mut(key)?;
        if self.is_idle(&entry) || !is_valid(&entry.value) {
            drop(entry);
            entries.remove(key);
            return None;
        }
        entry.used = Stopwatch::start();
        Some(entry.value.clone())
    }

    /// Removes the value of `key`, and returns it unless it was idle for too long.
    pub fn take(&self, key: &K) -> Option<V> {
        let (_, entry) = self.locked().remove(key)?;
        (!self.is_idle(&entry)).then_some(entry.value)
    }

    /// Removes all entries that were idle for too long.
    pub fn remove_idle(&self) {
        self.locked().retain(|_, entry| !self.is_idle(entry));
    }

    fn is_idle(&self, entry: &Entry<V>) -> bool {
        entry.used.elapsed() >= self.limits.idle_timeout
    }

    fn locked(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: usize, weight: u64, idle_timeout: Duration) -> IdleCache<u32, u32> {
        IdleCache::new(IdleCacheLimits {
            entries,
            weight,
            idle_timeout,
        })
    }

    fn len(cache: &IdleCache<u32, u32>) -> usize {
        cache.locked().len()
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn get_returns_valid_values_and_removes_others() {
        let cache = cache(10, 100, HOUR);
        cache.insert(1, 11, 1);
        assert_eq!(cache.get(&1, |value| *value == 11), Some(11));
        assert_eq!(cache.get(&2, |_| true), None);
        assert_eq!(cache.get(&1, |_| false), None);
        assert_eq!(len(&cache), 0);
        cache.insert(1, 12, 1);
        assert_eq!((cache.take(&1), cache.take(&1)), (Some(12), None));
    }

    #[test]
    fn idle_entries_are_neither_returned_nor_held() {
        // Every entry is idle at once.
        let cache = cache(10, 100, Duration::ZERO);
        cache.insert(1, 11, 1);
        assert_eq!((len(&cache), cache.get(&1, |_| true)), (1, None));
        assert_eq!(len(&cache), 0, "a lookup must remove it");
        cache.insert(1, 11, 1);
        assert_eq!(cache.take(&1), None);
        cache.insert(1, 11, 1);
        cache.insert(2, 22, 1);
        cache.remove_idle();
        assert_eq!(len(&cache), 0);
    }

    #[test]
    fn insert_bounds_number_and_weight() {
        let cache = cache(10, 1_000, HOUR);
        for key in 0..100 {
            cache.insert(key, key, 1);
            assert!(len(&cache) <= 10);
            assert_eq!(cache.get(&key, |_| true), Some(key), "the last one stays");
        }
        cache.insert(200, 200, 500);
        assert_eq!(cache.get(&200, |_| true), Some(200));
        let weight = cache.locked().weight();
        assert!(weight <= 1_000, "{weight}");
        cache.insert(300, 300, 501);
        assert_eq!(cache.get(&300, |_| true), None, "it is too heavy");
    }

    /// A plan that is made while the cache is full of popular ones is still there when its ticket is redeemed.
    #[test]
    fn new_entries_stay_while_the_cache_is_full_of_popular_ones() {
        let cache = cache(100, 100, HOUR);
        for key in 0..100 {
            cache.insert(key, key, 1);
            for _ in 0..5 {
                cache.get(&key, |_| true);
            }
        }
        for key in 1_000..1_040 {
            cache.insert(key, key, 1);
        }
        for key in 1_000..1_040 {
            assert_eq!(cache.take(&key), Some(key), "{key}");
        }
    }
}
