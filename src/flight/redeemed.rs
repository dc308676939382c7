//! Which queries' answers were fetched lately: to fetch one for the first time is part of having asked for it, and to
//! fetch it again is to ask again.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// Queries that are remembered. What was asked long ago may be fetched once more.
const MOST: usize = 16_384;

/// The queries.
#[derive(Debug, Default)]
pub(super) struct Redeemed {
    known: Mutex<(HashSet<Uuid>, VecDeque<Uuid>)>,
}

impl Redeemed {
    /// Whether the answer is fetched for the first time.
    pub fn is_first(&self, query: Uuid) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (ids, order) = &mut *known;
        if !ids.insert(query) {
            return false;
        }
        order.push_back(query);
        if order.len() > MOST
            && let Some(oldest) = order.pop_front()
        {
            ids.remove(&oldest);
        }
        true
    }
}
