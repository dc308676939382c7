//! Plans between the call that made them and the one that runs them: a statement is planned once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::Visible;
use crate::clock::Stopwatch;
use crate::engine::QuerySession;

/// Plans that wait at most.
const MOST: usize = 500;
/// A plan waits for so long; then the statement is planned again when it is run.
const LIFE: Duration = Duration::from_secs(60);

/// A statement that was planned.
#[derive(Clone)]
pub(super) struct Planned {
    /// What it was planned in.
    pub session: QuerySession,
    /// The plan; none if it is `EXPLAIN`, and the plan is the answer.
    pub plan: LogicalPlan,
    /// Whether the plan itself is the answer.
    pub explains: bool,
    /// The answer's schema.
    pub schema: SchemaRef,
    /// What could be seen then.
    pub visible: Arc<Visible>,
}

/// The plans that wait, by their tickets.
#[derive(Default)]
pub(super) struct Plans {
    waiting: Mutex<HashMap<Vec<u8>, (Planned, Stopwatch)>>,
}

impl Plans {
    /// Keeps a plan for whoever brings this ticket.
    pub fn keep(&self, ticket: &[u8], planned: Planned) {
        let mut waiting = self.locked();
        if waiting.len() >= MOST {
            waiting.retain(|_, (_, since)| since.elapsed() < LIFE);
        }
        if waiting.len() >= MOST {
            // Many abandoned tickets: those who come now plan again.
            return;
        }
        waiting.insert(ticket.to_vec(), (planned, Stopwatch::start()));
    }

    /// The plan for this ticket, if it is still what `visible` allows; it is taken only once.
    pub fn take(&self, ticket: &[u8], visible: &Arc<Visible>) -> Option<Planned> {
        let (planned, since) = self.locked().remove(ticket)?;
        let is_current = since.elapsed() < LIFE && Arc::ptr_eq(&planned.visible, visible);
        is_current.then_some(planned)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, (Planned, Stopwatch)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
