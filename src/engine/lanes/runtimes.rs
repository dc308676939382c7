//! The threads that long queries run on: some for each organisation, so that work of one that cannot be interrupted holds up
//! none of another.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::model::OrganisationId;
use crate::workers::Workers;

/// Threads of an organisation that ran no query for this long are ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The threads of each organisation that ran a query lately.
#[derive(Debug)]
pub(super) struct Runtimes {
    threads: usize,
    stack: usize,
    by_organisation: Mutex<HashMap<OrganisationId, (Arc<Workers>, Stopwatch)>>,
}

impl Runtimes {
    /// Gives each organisation `threads` threads with stacks of `stack` bytes.
    pub fn new(threads: usize, stack: usize) -> Self {
        Self {
            threads,
            stack,
            by_organisation: Mutex::default(),
        }
    }

    /// Returns the organisation's threads. They are in use for as long as the handle is held.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn get(&self, organisation: OrganisationId) -> io::Result<Arc<Workers>> {
        let mut known = self.locked();
        known.retain(|of, (workers, used)| {
            *of == organisation || Arc::strong_count(workers) > 1 || used.elapsed() < IDLE_TIMEOUT
        });
        if let Some((workers, used)) = known.get_mut(&organisation) {
            *used = Stopwatch::start();
            return Ok(Arc::clone(workers));
        }
        let workers = Arc::new(Workers::start("query", self.threads, self.stack)?);
        known.insert(organisation, (Arc::clone(&workers), Stopwatch::start()));
        Ok(workers)
    }

    /// Gives the organisation other threads for its next queries.
    pub fn withdraw(&self, organisation: OrganisationId, workers: &Arc<Workers>) {
        let mut known = self.locked();
        let is_known = known
            .get(&organisation)
            .is_some_and(|(known, _)| Arc::ptr_eq(known, workers));
        if is_known {
            known.remove(&organisation);
        }
    }

    /// Gives the organisation the threads back, if it has no others by now.
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
