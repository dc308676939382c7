//! A cache of recent plans: for the calls that make, announce and run a plan, and for clients that send the same statement
//! again.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::planning::{Description, FurtherRows};
use crate::catalog::VisibleAssets;
use crate::engine::{IdleCache, IdleCacheLimits, OptimisedQuery, QuerySession};
use crate::model::OrganisationId;

/// The maximum number of cached plans.
const MAX_PLANS: usize = 256;
/// The maximum size of the texts, parameters and constants of all cached plans, in bytes. The memory of a plan grows with
/// them. A constant may be far larger than its SQL text, for example with `repeat`. One plan may have half of it.
const MAX_BYTES: u64 = 4 << 20;
/// The time after which an unused plan is removed: it holds the tables that it was made for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval at which idle plans are removed.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A planned statement.
#[derive(Clone)]
pub(in crate::server) struct CachedPlan {
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
    /// The rows of parameters after the one of the query.
    pub further: Option<Arc<FurtherRows>>,
    /// The encoded schemas of the result and of the parameters.
    pub description: Description,
    /// The assets that were visible when it was planned.
    pub visible: Arc<VisibleAssets>,
}

/// Everything that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::server) struct PlanKey {
    pub organisation: OrganisationId,
    pub is_admin: bool,
    pub run: u64,
    /// The version of the views.
    pub views: u64,
    pub time_zone: Option<String>,
    pub schema: Option<String>,
    pub zoneless_timestamps: bool,
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
pub(in crate::server) struct PlanCache(IdleCache<PlanKey, CachedPlan>);

impl Default for PlanCache {
    fn default() -> Self {
        Self(IdleCache::new(IdleCacheLimits {
            entries: MAX_PLANS,
            weight: MAX_BYTES,
            idle_timeout: IDLE_TIMEOUT,
        }))
    }
}

impl PlanCache {
    /// Caches a plan for the query, and for others if it is repeatable. A statement whose plan is too large for the cache is
    /// planned again when it is run.
    pub fn insert(&self, mut key: PlanKey, planned: &CachedPlan) {
        if planned.is_repeatable {
            key.query = None;
        }
        let bytes = cached_bytes(&key, planned) as u64;
        self.0.insert(key, planned.clone(), bytes);
    }

    /// Returns the plan for `key`, if it was made for the same `visible` assets. A plan for a single query is removed.
    pub fn get(&self, key: &PlanKey, visible: &Arc<VisibleAssets>) -> Option<CachedPlan> {
        let is_current = |planned: &CachedPlan| Arc::ptr_eq(&planned.visible, visible);
        if key.query.is_some()
            && let Some(planned) = self.0.take(key)
        {
            return is_current(&planned).then_some(planned);
        }
        let shared = PlanKey {
            query: None,
            ..key.clone()
        };
        self.0.get(&shared, is_current)
    }

    /// Removes plans that are idle, for as long as the future is polled.
    pub async fn remove_idle_plans(&self) {
        let mut ticks = tokio::time::interval(IDLE_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.0.remove_idle();
        }
    }
}
