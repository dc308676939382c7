//! The threads that run long queries. Each organisation has its own, so that work that cannot be interrupted does not
//! delay other organisations.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::model::OrganisationId;
use crate::workers::Workers;

/// The time without a query after which an organisation's threads are ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The threads of each organisation that ran a query recently.
#[derive(Debug)]
pub(super) struct OrganisationThreads {
    threads: usize,
    stack_bytes: usize,
    by_organisation: Mutex<HashMap<OrganisationId, (Arc<Workers>, Stopwatch)>>,
}

impl OrganisationThreads {
    /// Creates a pool that gives each organisation `threads` threads with stacks of `stack` bytes.
    pub fn new(threads: usize, stack: usize) -> Self {
        Self {
            threads,
            stack_bytes: stack,
            by_organisation: Mutex::default(),
        }
    }

    /// Returns the organisation's threads. They are in use for as long as the handle is held.
    ///
    /// # Errors
    /// If the system cannot start more threads.
    pub fn get(&self, organisation: OrganisationId) -> io::Result<Arc<Workers>> {
        let mut known = self.locked();
        known.retain(|of, (workers, used)| {
            *of == organisation || Arc::strong_count(workers) > 1 || used.elapsed() < IDLE_TIMEOUT
        });
        if let Some((workers, used)) = known.get_mut(&organisation) {
            *used = Stopwatch::start();
            return Ok(Arc::clone(workers));
        }
        let workers = Arc::new(Workers::start("query", self.threads, self.stack_bytes)?);
        known.insert(organisation, (Arc::clone(&workers), Stopwatch::start()));
        Ok(workers)
    }

    /// Removes the threads from the pool, so that the organisation's next queries get new ones.
    pub fn remove(&self, organisation: OrganisationId, workers: &Arc<Workers>) {
        let mut known = self.locked();
        let is_known = known
            .get(&organisation)
            .is_some_and(|(known, _)| Arc::ptr_eq(known, workers));
        if is_known {
            known.remove(&organisation);
        }
    }

    /// Returns the threads to the pool, unless the organisation has new ones by now.
    pub fn restore(&self, organisation: OrganisationId, workers: Arc<Workers>) {
        let mut known = self.locked();
        known
            .entry(organisation)
            .or_insert_with(|| (workers, Stopwatch::start()));
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<OrganisationId, (Arc<Workers>, Stopwatch)>> {
        self.by_organisation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
