//! A cache of data about the most recently used granted sets.

use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::VisibleAssets;

/// The maximum number of cached sets, each with several hundred kilobytes. An organisation has one.
const MAX_SETS: usize = 16;
/// The minimum size of a cached set. Smaller sets are cheap to process, and may belong to a single query.
const MIN_CACHED_IDS: usize = 256;

/// A cache of one value per granted set. The key is the set's address, which stays unique because the cache keeps the
/// set alive.
///
/// The set that was not used for longest leaves. `quick_cache` would hold sets of a former catalog for as long as they were
/// popular.
#[derive(Debug)]
pub(super) struct GrantedSetCache<T> {
    /// Ordered by last use; the last entry was used most recently.
    sets: Mutex<Vec<(Arc<VisibleAssets>, T)>>,
}

impl<T> Default for GrantedSetCache<T> {
    fn default() -> Self {
        Self {
            sets: Mutex::default(),
        }
    }
}

impl<T: Clone> GrantedSetCache<T> {
    /// Returns the value of a set, and computes it if it is missing or no longer valid.
    pub fn get(
        &self,
        granted: &Arc<VisibleAssets>,
        is_valid: impl Fn(&T) -> bool,
        make: impl FnOnce(&VisibleAssets) -> T,
    ) -> T {
        if matches!(&**granted, VisibleAssets::Only(ids) if ids.len() < MIN_CACHED_IDS) {
            return make(granted);
        }
        let lock = || self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut sets = lock();
            if let Some(at) = sets.iter().position(|(set, _)| Arc::ptr_eq(set, granted)) {
                let found = sets.remove(at);
                if is_valid(&found.1) {
                    let made = found.1.clone();
                    sets.push(found);
                    return made;
                }
            }
        }
        // Computed without the lock, so that other sets need not wait; at worst two threads compute the same value.
        let made = make(granted);
        let mut sets = lock();
        sets.retain(|(set, _)| !Arc::ptr_eq(set, granted));
        if sets.len() >= MAX_SETS {
            sets.remove(0);
        }
        sets.push((Arc::clone(granted), made.clone()));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AssetId;

    #[test]
    fn get_caches_valid_values_and_evicts_old_sets() {
        let recent = GrantedSetCache::default();
        let set = || {
            Arc::new(VisibleAssets::Only(
                (0..MIN_CACHED_IDS as u128)
                    .map(|id| AssetId::from_bytes(id.to_be_bytes()))
                    .collect(),
            ))
        };
        let first = set();
        assert_eq!(recent.get(&first, |_| true, |_| 1), 1);
        assert_eq!(recent.get(&first, |_| true, |_| 2), 1);
        assert_eq!(recent.get(&first, |made| *made == 3, |_| 3), 3);
        // An equal set at another address.
        assert_eq!(recent.get(&set(), |_| true, |_| 4), 4);
        for _ in 0..MAX_SETS {
            recent.get(&set(), |_| true, |_| 5);
        }
        assert_eq!(recent.get(&first, |_| true, |_| 6), 6);
        let small = Arc::new(VisibleAssets::Only(Vec::new()));
        assert_eq!(recent.get(&small, |_| true, |_| 7), 7);
        assert_eq!(recent.get(&small, |_| true, |_| 8), 8);
    }
}
