//! What was worked out for the granted sets that are asked for these days.

use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::Visible;

/// So many sets are kept, each with some hundred kilobytes: an organisation has one.
const KEPT: usize = 16;
/// What belongs to smaller sets is worked out at once. They may be made for a single question, too.
const LEAST: usize = 256;

/// What belongs to each of the sets. A set is known by where it is in memory: it is kept, so nothing else gets there.
#[derive(Debug)]
pub(super) struct Recent<T> {
    /// The last is the one that was asked for last.
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
    /// What belongs to a set: made, unless it is there and still good.
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
        // Others need not wait for it; at worst, two make the same.
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
    fn it_is_made_once_for_each_set_while_it_is_good_and_old_ones_go() {
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
        // Equal, but another.
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
