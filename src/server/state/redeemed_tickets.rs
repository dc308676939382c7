//! Queries whose results were fetched recently. The first fetch of a result belongs to the request that planned the query;
//! each further fetch counts as a new request.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// The maximum number of queries that are remembered. The result of an older query may be fetched once more without
/// counting as a new request.
const MAX_QUERIES: usize = 16_384;

/// The queries whose results were fetched, oldest first. They are no cache: a recent one must never leave before an older one,
/// or its result could be fetched again without counting. `quick_cache` evicts new entries first once it is full.
#[derive(Debug, Default)]
pub(in crate::server) struct RedeemedTickets {
    known: Mutex<(HashSet<Uuid>, VecDeque<Uuid>)>,
}

impl RedeemedTickets {
    /// Records that the result of `query` is fetched. Returns whether this is the first time.
    pub fn redeem(&self, query: Uuid) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (ids, order) = &mut *known;
        if !ids.insert(query) {
            return false;
        }
        order.push_back(query);
        if order.len() > MAX_QUERIES
            && let Some(oldest) = order.pop_front()
        {
            ids.remove(&oldest);
        }
        true
    }
}
