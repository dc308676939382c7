//! Access that ends within seconds of its revocation, in the middle of a query too.
//!
//! What was checked once is remembered by the hash of its credential, and good for as long as nobody changed who may do
//! what (the database's revision), looked at every second. If the database is away, what is remembered stays good for a
//! while: an outage of the database must not be one of the plant's dashboards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::{AuthError, Principal};
use crate::clock::{self, Stopwatch};

/// How often it is looked whether something changed.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// What is remembered is used without looking into the database, if somebody looked so long ago.
const FRESH: Duration = Duration::from_secs(3);
/// What is remembered is used for so long while the database is away.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// Credentials that are remembered at most.
const MOST: usize = 100_000;

/// Why an access ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The same credential still lets its owner in, to less than before: whatever was under way had been asked for
    /// with the wider access, and can be asked for again with what is left of it.
    Narrowed,
    /// The credential lets nobody in any more, and why.
    Over(String),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Narrowed => {
                f.write_str("what you may do or see was reduced in the meantime; ask again")
            }
            Self::Over(why) => write!(f, "access has ended: {why}"),
        }
    }
}

impl std::error::Error for Ended {}

/// Someone's access to what [`Principal`] may see, until it [ends](Access::ended).
#[derive(Debug, Clone)]
pub struct Access {
    principal: Arc<Principal>,
    end: watch::Receiver<Option<Ended>>,
}

impl Access {
    /// The one who asks.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether it has ended, and why.
    pub fn check(&self) -> Result<(), Ended> {
        match &*self.end.borrow() {
            Some(ended) => Err(ended.clone()),
            None => Ok(()),
        }
    }

    /// Waits until it ends; whoever works on behalf of the principal stops then.
    pub async fn ended(&self) -> Ended {
        let mut end = self.end.clone();
        let outcome = match end.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| Ended::Over("the server is ending".to_owned()))
    }
}

/// The hash of a credential.
pub(super) type Fingerprint = [u8; 32];

struct Known {
    principal: Arc<Principal>,
    /// The revision that it was checked at.
    revision: i64,
    end: watch::Sender<Option<Ended>>,
}

impl Known {
    fn access(&self) -> Access {
        Access {
            principal: Arc::clone(&self.principal),
            end: self.end.subscribe(),
        }
    }
}

#[derive(Default)]
struct State {
    known: HashMap<Fingerprint, Known>,
    /// When it was last made sure that all that is known is as the database says.
    looked: Option<Stopwatch>,
}

/// What was checked, and is still good.
#[derive(Clone, Default)]
pub(super) struct LiveAccess {
    state: Arc<Mutex<State>>,
}

impl LiveAccess {
    /// The access of this credential, if it is known and was looked at a moment ago.
    pub fn fresh(&self, credential: &Fingerprint) -> Option<Access> {
        self.not_older_than(FRESH, credential)
    }

    /// The access of this credential, if it is known and was good before the database went away.
    pub fn stale(&self, credential: &Fingerprint) -> Option<Access> {
        self.not_older_than(GRACE, credential)
    }

    fn not_older_than(&self, age: Duration, credential: &Fingerprint) -> Option<Access> {
        let state = self.lock();
        let looked = state.looked?;
        let known = state.known.get(credential)?;
        (looked.elapsed() < age && !has_expired(&known.principal, clock::now()))
            .then(|| known.access())
    }

    /// Remembers who presented this credential.
    pub fn admit(&self, credential: Fingerprint, principal: Principal, revision: i64) -> Access {
        let mut state = self.lock();
        if state.known.len() >= MOST {
            // Those whom nobody works for any more are looked up again when they come back.
            state
                .known
                .retain(|_, known| known.end.receiver_count() > 0);
        }
        if let Some(known) = state.known.get_mut(&credential)
            && !principal.may_less_than(&known.principal)
        {
            known.principal = Arc::new(principal);
            known.revision = known.revision.min(revision);
            return known.access();
        }
        let (end, _) = watch::channel(None);
        let known = Known {
            principal: Arc::new(principal),
            revision,
            end,
        };
        let access = known.access();
        if let Some(before) = state.known.insert(credential, known) {
            before.end.send_replace(Some(Ended::Narrowed));
        }
        access
    }

    /// All that is known, and the revision that it was checked at.
    pub fn all(&self) -> Vec<(Fingerprint, Arc<Principal>, i64)> {
        let state = self.lock();
        let known = state.known.iter();
        known
            .map(|(credential, known)| (*credential, Arc::clone(&known.principal), known.revision))
            .collect()
    }

    /// Takes over what a new look said: who is still let in, as who. Ends the others, and those who may do less.
    pub fn revise(
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
            Ok(now) if now.may_less_than(&known.principal) => {
                known.end.send_replace(Some(Ended::Narrowed));
                let (end, _) = watch::channel(None);
                *known = Known {
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
                known.end.send_replace(Some(Ended::Over(error.to_string())));
                state.known.remove(credential);
            }
        }
    }

    /// Notes that all that is known is as the database says.
    pub fn looked(&self) {
        self.lock().looked = Some(Stopwatch::start());
    }

    /// Ends what has expired, and everything if the database is away for too long.
    pub fn end_overdue(&self, now: DateTime<Utc>) {
        let mut state = self.lock();
        let is_cut_off = state.looked.is_some_and(|looked| looked.elapsed() >= GRACE);
        state.known.retain(|_, known| {
            let reason = if has_expired(&known.principal, now) {
                "it has expired"
            } else if is_cut_off {
                "the organisation database cannot be reached"
            } else {
                return true;
            };
            known.end.send_replace(Some(Ended::Over(reason.to_owned())));
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
