//! A cache of data about the most recently used granted sets.

use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::Visible;

/// The maximum number of cached sets, each with several hundred kilobytes. An organisation has one.
const KEPT: usize = 16;
/// The minimum size of a cached set. Smaller sets are cheap to process, and may belong to a single query.
const LEAST: usize = 256;

/// A cache of one value per granted set. The key is the set's address, which stays unique because the cache keeps the
/// set alive.
#[derive(Debug)]
pub(super) struct Recent<T> {
    /// Ordered by last use; the last entry was used most recently.
    sets: Mutex<Vec<(Arc<Visible>, T)>>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            sets: Mutex::default(),
        }
    }
}

impl<T: Clone> Recent<T> {
    /// Returns the value of a set, and computes it if it is missing or no longer valid.
    pub fn get(
        &self,
        granted: &Arc<Visible>,
        is_good: impl Fn(&T) -> bool,
        make: impl FnOnce(&Visible) -> T,
    ) -> T {
        if matches!(&**granted, Visible::Only(ids) if ids.len() < LEAST) {
            return make(granted);
        }
        let lock = || self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut sets = lock();
            if let Some(at) = sets.iter().position(|(set, _)| Arc::ptr_eq(set, granted)) {
                let found = sets.remove(at);
                if is_good(&found.1) {
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
        if sets.len() >= KEPT {
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
        let recent = Recent::default();
        let set = || {
            Arc::new(Visible::Only(
                (0..LEAST as u128)
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
        for _ in 0..KEPT {
            recent.get(&set(), |_| true, |_| 5);
        }
        assert_eq!(recent.get(&first, |_| true, |_| 6), 6);
        let small = Arc::new(Visible::Only(Vec::new()));
        assert_eq!(recent.get(&small, |_| true, |_| 7), 7);
        assert_eq!(recent.get(&small, |_| true, |_| 8), 8);
    }
}
