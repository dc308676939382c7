//! Limits on concurrent ingests, and their distribution among organisations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::OrganisationId;

/// The maximum number of concurrent ingests: each takes the memory of a file that is being written.
const MAX_INGESTS: usize = 16;
/// The maximum number of concurrent ingests of one organisation.
const MAX_INGESTS_OF_ONE: usize = MAX_INGESTS / 2;
/// The number of places reserved for organisations without a running ingest.
const RESERVED: usize = MAX_INGESTS / 4;

/// The number of running ingests of each organisation.
#[derive(Debug, Default)]
pub(super) struct IngestPlaces {
    running: Mutex<HashMap<OrganisationId, usize>>,
}

/// A place for an ingest of an organisation; released on drop.
#[derive(Debug)]
pub(super) struct IngestPlace {
    places: Arc<IngestPlaces>,
    organisation: OrganisationId,
}

/// The reason why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All organisations together have too many ingests.
    All,
    /// The organisation has the maximum number of ingests, which is given here.
    Organisation(usize),
}

impl IngestPlaces {
    /// Takes a place for an organisation.
    ///
    /// # Errors
    /// Fails if the organisation, or all together, have too many ingests.
    pub fn take(self: &Arc<Self>, organisation: OrganisationId) -> Result<IngestPlace, NoPlace> {
        let mut running = self.locked();
        let free = MAX_INGESTS.saturating_sub(running.values().sum());
        let own = running.get(&organisation).copied().unwrap_or(0);
        if own >= MAX_INGESTS_OF_ONE {
            return Err(NoPlace::Organisation(own));
        }
        let reserved = if own == 0 { 0 } else { RESERVED };
        if free <= reserved {
            return Err(NoPlace::All);
        }
        running.insert(organisation, own + 1);
        Ok(IngestPlace {
            places: Arc::clone(self),
            organisation,
        })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<OrganisationId, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IngestPlace {
    fn drop(&mut self) {
        let mut running = self.places.locked();
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
    fn take_by_organisation_with_half_of_the_places_fails() {
        let places = Arc::new(IngestPlaces::default());
        let mut taken: Vec<_> = (0..MAX_INGESTS_OF_ONE)
            .map(|_| places.take(organisation(1)).unwrap())
            .collect();
        assert_eq!(
            places.take(organisation(1)).unwrap_err(),
            NoPlace::Organisation(MAX_INGESTS_OF_ONE)
        );
        // A released place can be taken again.
        taken.pop();
        taken.push(places.take(organisation(1)).unwrap());
        drop(taken);
        assert!(places.locked().is_empty());
    }

    #[test]
    fn take_of_reserved_place_succeeds_only_without_another_place() {
        let places = Arc::new(IngestPlaces::default());
        let mut taken = Vec::new();
        for number in [1, 2] {
            while let Ok(place) = places.take(organisation(number)) {
                taken.push(place);
            }
        }
        assert_eq!(taken.len(), MAX_INGESTS - RESERVED);
        for number in 3..3 + RESERVED as u128 {
            taken.push(places.take(organisation(number)).unwrap());
            assert_eq!(places.take(organisation(number)).unwrap_err(), NoPlace::All);
        }
        assert_eq!(places.take(organisation(99)).unwrap_err(), NoPlace::All);
    }
}
