//! Limits on concurrent ingests, and their distribution among organisations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::OrganisationId;

/// The maximum number of concurrent ingests: each takes the memory of a file that is being written.
const MAX_INGESTS: usize = 16;
/// The maximum number of concurrent ingests of one organisation.
const MAX_INGESTS_PER_ORGANISATION: usize = MAX_INGESTS / 2;
/// The number of places reserved for organisations without a running ingest.
const RESERVED_PERMITS: usize = MAX_INGESTS / 4;

/// The number of running ingests of each organisation.
#[derive(Debug, Default)]
pub(in crate::server) struct IngestPermits {
    running: Mutex<HashMap<OrganisationId, usize>>,
}

/// A place for an ingest of an organisation; released on drop.
#[derive(Debug)]
pub(in crate::server) struct IngestPermit {
    permits: Arc<IngestPermits>,
    organisation: OrganisationId,
}

/// The reason why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum NoIngestPermit {
    /// All organisations together have too many ingests.
    All,
    /// The organisation has the maximum number of ingests, which is given here.
    Organisation(usize),
}

impl IngestPermits {
    /// Takes a place for an organisation.
    ///
    /// # Errors
    /// Fails if the organisation, or all together, have too many ingests.
    pub fn acquire(
        self: &Arc<Self>,
        organisation: OrganisationId,
    ) -> Result<IngestPermit, NoIngestPermit> {
        let mut running = self.lock();
        let free = MAX_INGESTS.saturating_sub(running.values().sum());
        let own = running.get(&organisation).copied().unwrap_or(0);
        if own >= MAX_INGESTS_PER_ORGANISATION {
            return Err(NoIngestPermit::Organisation(own));
        }
        let reserved = if own == 0 { 0 } else { RESERVED_PERMITS };
        if free <= reserved {
            return Err(NoIngestPermit::All);
        }
        running.insert(organisation, own + 1);
        Ok(IngestPermit {
            permits: Arc::clone(self),
            organisation,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrganisationId, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IngestPermit {
    fn drop(&mut self) {
        let mut running = self.permits.lock();
        if let Some(own) = running.get_mut(&self.organisation) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                running.remove(&self.organisation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn organisation(number: u128) -> OrganisationId {
        OrganisationId(Uuid::from_u128(number))
    }

    #[test]
    fn acquire_by_organisation_with_half_of_the_places_fails() {
        let places = Arc::new(IngestPermits::default());
        let mut taken: Vec<_> = (0..MAX_INGESTS_PER_ORGANISATION)
            .map(|_| places.acquire(organisation(1)).unwrap())
            .collect();
        assert_eq!(
            places.acquire(organisation(1)).unwrap_err(),
            NoIngestPermit::Organisation(MAX_INGESTS_PER_ORGANISATION)
        );
        // A released place can be taken again.
        taken.pop();
        taken.push(places.acquire(organisation(1)).unwrap());
        drop(taken);
        assert!(places.lock().is_empty());
    }

    #[test]
    fn acquire_of_reserved_place_succeeds_only_without_another_place() {
        let places = Arc::new(IngestPermits::default());
        let mut taken = Vec::new();
        for number in [1, 2] {
            while let Ok(place) = places.acquire(organisation(number)) {
                taken.push(place);
            }
        }
        assert_eq!(taken.len(), MAX_INGESTS - RESERVED_PERMITS);
        for number in 3..3 + RESERVED_PERMITS as u128 {
            taken.push(places.acquire(organisation(number)).unwrap());
            assert_eq!(
                places.acquire(organisation(number)).unwrap_err(),
                NoIngestPermit::All
            );
        }
        assert_eq!(
            places.acquire(organisation(99)).unwrap_err(),
            NoIngestPermit::All
        );
    }
}
