//! A cache of recent plans: for the calls that make, announce and run a plan, and for clients that send the same statement
//! again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::planning::Description;
use crate::catalog::VisibleAssets;
use crate::clock::Stopwatch;
use crate::engine::{OptimisedQuery, QuerySession};
use crate::model::OrganisationId;

/// The maximum number of cached plans.
const MAX_PLANS: usize = 256;
/// The maximum size of the texts, parameters and constants of all cached plans, in bytes. The memory of a plan grows with
/// them. A constant may be far larger than its SQL text, for example with `repeat`.
const MAX_BYTES: usize = 4 << 20;
/// The time after which an unused plan is removed: it holds the tables that it was made for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A planned statement.
#[derive(Clone)]
pub(super) struct CachedPlan {
    /// The session in which it was planned.
    pub session: QuerySession,
    /// The optimised query that is run.
    pub query: Arc<OptimisedQuery>,
    /// Whether the plan itself is the result (`EXPLAIN`).
    pub is_explain: bool,
    /// Whether the plan means the same when it is run again; it does not if it contains `now()`, for example.
    pub is_repeatable: bool,
    /// The schema of the result.
    pub schema: SchemaRef,
    /// The encoded schemas of the result and of the parameters.
    pub description: Description,
    /// The assets that were visible when it was planned.
    pub visible: Arc<VisibleAssets>,
}

/// Everything that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PlanKey {
    pub organisation: OrganisationId,
    pub is_admin: bool,
    pub run: u64,
    /// The version of the views.
    pub views: u64,
    pub time_zone: Option<String>,
    pub schema: Option<String>,
    pub sql: String,
    pub parameters: Vec<u8>,
    /// The query that the plan is for; none if any query may use it.
    pub query: Option<Uuid>,
}

/// Returns the bytes that a plan counts for in the cache.
fn cached_bytes(key: &PlanKey, planned: &CachedPlan) -> usize {
    let texts = key.sql.len() + key.parameters.len() + planned.description.schema.len();
    texts.saturating_add(planned.query.constant_bytes())
}

/// The cached plans.
#[derive(Default)]
pub(super) struct PlanCache {
    entries: Mutex<HashMap<PlanKey, (CachedPlan, Stopwatch)>>,
}

impl PlanCache {
    /// Caches a plan for the query, and for others if it is repeatable.
    pub fn insert(&self, mut key: PlanKey, planned: &CachedPlan) {
        if planned.is_repeatable {
            key.query = None;
        }
        let own = cached_bytes(&key, planned);
        if own > MAX_BYTES {
            // The statement is planned again when it is run.
            return;
        }
        let mut kept = self.lock();
        kept.retain(|_, (_, used)| used.elapsed() < IDLE_TIMEOUT);
        let all = kept
            .iter()
            .map(|(key, (planned, _))| cached_bytes(key, planned));
        let mut bytes = all.fold(own, usize::saturating_add);
        while kept.len() >= MAX_PLANS || bytes > MAX_BYTES {
            let idlest = kept.iter().max_by_key(|(_, (_, used))| used.elapsed());
            let Some(idlest) = idlest.map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some((planned, _)) = kept.remove(&idlest) {
                bytes = bytes.saturating_sub(cached_bytes(&idlest, &planned));
            }
        }
        kept.insert(key, (planned.clone(), Stopwatch::start()));
    }

    /// Returns the plan for `key`, if it was made for the same `visible` assets. A plan for a single query is removed.
    pub fn get(&self, key: &PlanKey, visible: &Arc<VisibleAssets>) -> Option<CachedPlan> {
        let mut kept = self.lock();
        let is_current = |planned: &CachedPlan| Arc::ptr_eq(&planned.visible, visible);
        if key.query.is_some()
            && let Some((planned, used)) = kept.remove(key)
        {
            return (used.elapsed() < IDLE_TIMEOUT && is_current(&planned)).then_some(planned);
        }
        let shared = PlanKey {
            query: None,
            ..key.clone()
        };
        let (planned, used) = kept.get_mut(&shared)?;
        if !is_current(planned) {
            kept.remove(&shared);
            return None;
        }
        *used = Stopwatch::start();
        Some(planned.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PlanKey, (CachedPlan, Stopwatch)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
