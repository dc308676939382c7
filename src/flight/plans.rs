//! Plans that were made lately: between the calls that make, announce and run one, and for whoever asks the same again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::planning::Description;
use crate::catalog::Visible;
use crate::clock::Stopwatch;
use crate::engine::{OptimisedQuery, QuerySession};
use crate::model::OrganisationId;

/// Plans that are kept at most.
const MOST: usize = 256;
/// Bytes of their texts, parameters and constants at most: what a plan takes grows with them. A constant may be far larger
/// than its text, which says `repeat`.
const MOST_BYTES: usize = 4 << 20;
/// A plan that is not used for so long is forgotten: it holds on to the tables that it was made for.
const LIFE: Duration = Duration::from_secs(60);

/// A statement that was planned.
#[derive(Clone)]
pub(super) struct Planned {
    /// What it was planned in.
    pub session: QuerySession,
    /// What is run.
    pub query: Arc<OptimisedQuery>,
    /// Whether the plan itself is the answer.
    pub explains: bool,
    /// Whether it means the same when it is run again; not where it says `now()`.
    pub is_repeatable: bool,
    /// The answer's schema.
    pub schema: SchemaRef,
    /// The same, encoded.
    pub description: Description,
    /// What could be seen then.
    pub visible: Arc<Visible>,
}

/// All that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PlanKey {
    pub organisation: OrganisationId,
    pub is_admin: bool,
    pub run: u64,
    /// Which views were in force.
    pub views: u64,
    pub time_zone: Option<String>,
    pub schema: Option<String>,
    pub sql: String,
    pub parameters: Vec<u8>,
    /// The query that it is for, if it is for that one only.
    pub query: Option<Uuid>,
}

/// The bytes that a plan counts for.
fn bytes_of(key: &PlanKey, planned: &Planned) -> usize {
    let texts = key.sql.len() + key.parameters.len() + planned.description.schema.len();
    texts.saturating_add(planned.query.constant_bytes())
}

/// The plans.
#[derive(Default)]
pub(super) struct Plans {
    kept: Mutex<HashMap<PlanKey, (Planned, Stopwatch)>>,
}

impl Plans {
    /// Keeps a plan for the query, and for others if it is repeatable.
    pub fn keep(&self, mut key: PlanKey, planned: &Planned) {
        if planned.is_repeatable {
            key.query = None;
        }
        let own = bytes_of(&key, planned);
        if own > MOST_BYTES {
            // It will be planned again.
            return;
        }
        let mut kept = self.locked();
        kept.retain(|_, (_, used)| used.elapsed() < LIFE);
        let all = kept
            .iter()
            .map(|(key, (planned, _))| bytes_of(key, planned));
        let mut bytes = all.fold(own, usize::saturating_add);
        while kept.len() >= MOST || bytes > MOST_BYTES {
            let idlest = kept.iter().max_by_key(|(_, (_, used))| used.elapsed());
            let Some(idlest) = idlest.map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some((planned, _)) = kept.remove(&idlest) {
                bytes = bytes.saturating_sub(bytes_of(&idlest, &planned));
            }
        }
        kept.insert(key, (planned.clone(), Stopwatch::start()));
    }

    /// The plan for `key`, if it is still what `visible` allows.
    pub fn find(&self, key: &PlanKey, visible: &Arc<Visible>) -> Option<Planned> {
        let mut kept = self.locked();
        let is_current = |planned: &Planned| Arc::ptr_eq(&planned.visible, visible);
        if key.query.is_some()
            && let Some((planned, used)) = kept.remove(key)
        {
            return (used.elapsed() < LIFE && is_current(&planned)).then_some(planned);
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

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<PlanKey, (Planned, Stopwatch)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
