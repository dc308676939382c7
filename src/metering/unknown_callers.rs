//! Calls without a known caller. They are counted by address and minute rather than stored one by one, since otherwise
//! anyone could fill the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock;
use crate::store::OrganisationStore;

/// The interval at which the counts are written.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// The maximum number of pairs of minute and address in memory.
const MAX_ENTRIES: usize = 10_000;
/// The address that further calls are counted under.
const OTHER_ADDRESSES: &str = "others";

/// Calls by minute and address.
type Counts = HashMap<(DateTime<Utc>, String), i64>;

/// The counts of calls without a known caller.
#[derive(Debug)]
pub(super) struct UnknownCallers {
    server: Uuid,
    store: OrganisationStore,
    /// The counts of the current minute, and earlier ones that are not written yet.
    counts: Mutex<Counts>,
}

impl UnknownCallers {
    /// Creates empty counts.
    pub fn new(server: Uuid, store: OrganisationStore) -> Self {
        Self {
            server,
            store,
            counts: Mutex::default(),
        }
    }

    /// Counts a call from `address`.
    pub fn count(&self, address: Option<IpAddr>) {
        let minute = minute_of(clock::now());
        let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let mut counts = self.lock();
        let is_known = counts.contains_key(&(minute, address.clone()));
        let address = match is_known || counts.len() < MAX_ENTRIES {
            true => address,
            false => OTHER_ADDRESSES.to_owned(),
        };
        *counts.entry((minute, address)).or_default() += 1;
    }

    /// Writes the counts at intervals, until the future is dropped.
    pub async fn write_periodically(&self) {
        loop {
            tokio::time::sleep(WRITE_INTERVAL).await;
            self.write().await;
        }
    }

    /// Writes the counts, and removes those of past minutes.
    pub async fn write(&self) {
        let counts: Vec<_> = self.lock().clone().into_iter().collect();
        if counts.is_empty() {
            return;
        }
        match self.store.set_unknown_callers(self.server, &counts).await {
            Ok(()) => {
                let now = minute_of(clock::now());
                let mut kept = self.lock();
                for (key, written) in counts {
                    if key.0 < now && kept.get(&key) == Some(&written) {
                        kept.remove(&key);
                    }
                }
            }
            Err(error) => {
                tracing::warn!("cannot record calls without a credential; retrying: {error}")
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn minute_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(at)
}
