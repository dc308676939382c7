//! Access that ends within seconds of its revocation, even in the middle of a query.
//!
//! A checked credential is remembered by its hash. It stays valid until someone changes permissions, which increases
//! the revision of the database; the revision is read every second. If the database is unavailable, remembered
//! credentials stay valid for a while, so that an outage of the database does not stop the plant's dashboards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::error::AuthError;
use super::principal::Principal;
use crate::clock::{self, Stopwatch};

/// The interval at which the revision is read.
pub(super) const REVISION_INTERVAL: Duration = Duration::from_secs(1);
/// Remembered credentials are used without a query of the database if they were confirmed within this time.
const CONFIRMATION_TTL: Duration = Duration::from_secs(3);
/// The time for which remembered credentials stay valid while the database is unavailable.
const OUTAGE_GRACE: Duration = Duration::from_secs(15 * 60);
/// The maximum number of remembered credentials that nobody is using at the moment.
const MAX_IDLE_CREDENTIALS: usize = 100_000;

/// The reason for which an access ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessEnded {
    /// The credential is still valid, but with fewer permissions. Requests in progress began with the wider
    /// permissions, and can be repeated with the remaining ones.
    PermissionsReduced,
    /// The credential is no longer valid, with the reason.
    CredentialInvalid(String),
}

impl std::fmt::Display for AccessEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PermissionsReduced => {
                f.write_str("your permissions were reduced in the meantime; repeat the request")
            }
            Self::CredentialInvalid(why) => write!(f, "access has ended: {why}"),
        }
    }
}

impl std::error::Error for AccessEnded {}

/// The access of a [`Principal`], until it [ends](Access::wait_for_end).
#[derive(Debug, Clone)]
pub struct Access {
    principal: Arc<Principal>,
    end: watch::Receiver<Option<AccessEnded>>,
}

impl Access {
    /// The caller.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Returns an error with the reason if the access has ended.
    pub fn check(&self) -> Result<(), AccessEnded> {
        match &*self.end.borrow() {
            Some(ended) => Err(ended.clone()),
            None => Ok(()),
        }
    }

    /// Waits until the access ends. Tasks that run on behalf of the principal stop then.
    pub async fn wait_for_end(&self) -> AccessEnded {
        let mut end = self.end.clone();
        let outcome = match end.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| {
            AccessEnded::CredentialInvalid("the server is shutting down".to_owned())
        })
    }
}

/// The hash of a credential.
pub(super) type Fingerprint = [u8; 32];

struct CachedCredential {
    principal: Arc<Principal>,
    /// The revision of the database at the last check.
    revision: i64,
    end: watch::Sender<Option<AccessEnded>>,
}

impl CachedCredential {
    fn access(&self) -> Access {
        Access {
            principal: Arc::clone(&self.principal),
            end: self.end.subscribe(),
        }
    }
}

#[derive(Default)]
struct State {
    known: HashMap<Fingerprint, CachedCredential>,
    /// The time since the remembered credentials were last confirmed by the database.
    last_confirmed: Option<Stopwatch>,
}

/// The remembered credentials, with their access.
#[derive(Clone, Default)]
pub(super) struct LiveAccess {
    state: Arc<Mutex<State>>,
}

impl LiveAccess {
    /// Returns the access of this credential if it is remembered and was confirmed within [`CONFIRMATION_TTL`].
    pub fn get_confirmed(&self, credential: &Fingerprint) -> Option<Access> {
        self.get_within(CONFIRMATION_TTL, credential)
    }

    /// Returns the access of this credential if it is remembered and was confirmed within [`OUTAGE_GRACE`], for use
    /// during an outage of the database.
    pub fn get_during_outage(&self, credential: &Fingerprint) -> Option<Access> {
        self.get_within(OUTAGE_GRACE, credential)
    }

    fn get_within(&self, age: Duration, credential: &Fingerprint) -> Option<Access> {
        let state = self.lock();
        let looked = state.last_confirmed?;
        let known = state.known.get(credential)?;
        (looked.elapsed() < age && !has_expired(&known.principal, clock::now()))
            .then(|| known.access())
    }

    /// Remembers the principal that presented this credential.
    pub fn insert(&self, credential: Fingerprint, principal: Principal, revision: i64) -> Access {
        let mut state = self.lock();
        if state.known.len() >= MAX_IDLE_CREDENTIALS {
            // Credentials without requests in progress are looked up again when they are next presented.
            state
                .known
                .retain(|_, known| known.end.receiver_count() > 0);
        }
        if let Some(known) = state.known.get_mut(&credential)
            && !principal.has_fewer_permissions_than(&known.principal)
        {
            known.principal = Arc::new(principal);
            known.revision = known.revision.min(revision);
            return known.access();
        }
        let (end, _) = watch::channel(None);
        let known = CachedCredential {
            principal: Arc::new(principal),
            revision,
            end,
        };
        let access = known.access();
        if let Some(before) = state.known.insert(credential, known) {
            before
                .end
                .send_replace(Some(AccessEnded::PermissionsReduced));
        }
        access
    }

    /// Returns all remembered credentials, each with the revision of its last check.
    pub fn all(&self) -> Vec<(Fingerprint, Arc<Principal>, i64)> {
        let state = self.lock();
        let known = state.known.iter();
        known
            .map(|(credential, known)| (*credential, Arc::clone(&known.principal), known.revision))
            .collect()
    }

    /// Applies the result of a new check. Ends the access if the credential is refused or has fewer permissions.
    pub fn apply_check(
        &self,
        credential: &Fingerprint,
        outcome: Result<Principal, AuthError>,
        revision: i64,
    ) {
        let mut state = self.lock();
        let Some(known) = state.known.get_mut(credential) else {
            return;
        };
        match outcome {
            Ok(now) if now.has_fewer_permissions_than(&known.principal) => {
                known
                    .end
                    .send_replace(Some(AccessEnded::PermissionsReduced));
                let (end, _) = watch::channel(None);
                *known = CachedCredential {
                    principal: Arc::new(now),
                    revision,
                    end,
                };
            }
            Ok(now) => {
                known.principal = Arc::new(now);
                known.revision = revision;
            }
            Err(error) => {
                known
                    .end
                    .send_replace(Some(AccessEnded::CredentialInvalid(error.to_string())));
                state.known.remove(credential);
            }
        }
    }

    /// Records that the database confirmed all remembered credentials.
    pub fn mark_confirmed(&self) {
        self.lock().last_confirmed = Some(Stopwatch::start());
    }

    /// Ends the access of expired credentials, and of all if the database is unavailable for [`OUTAGE_GRACE`].
    pub fn end_expired(&self, now: DateTime<Utc>) {
        let mut state = self.lock();
        let is_cut_off = state
            .last_confirmed
            .is_some_and(|looked| looked.elapsed() >= OUTAGE_GRACE);
        state.known.retain(|_, known| {
            let reason = if has_expired(&known.principal, now) {
                "the credential has expired"
            } else if is_cut_off {
                "the organisation database is unavailable"
            } else {
                return true;
            };
            known
                .end
                .send_replace(Some(AccessEnded::CredentialInvalid(reason.to_owned())));
            false
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_expired(principal: &Principal, now: DateTime<Utc>) -> bool {
    principal
        .proof
        .expires_at()
        .is_some_and(|end| end - now <= TimeDelta::zero())
}
