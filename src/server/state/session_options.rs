//! Session options that clients set. They are kept in memory, per credential, and expire when they are not used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::auth::{Principal, Proof};
use crate::clock::Stopwatch;
use crate::engine::SessionOption;
use crate::model::OrganisationId;

/// The time after which the options of an idle session expire.
const IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
/// The maximum number of sessions of an organisation that have options. At the limit, the session that was idle for longest
/// is removed. The limit is per organisation, so none displaces sessions of another.
const MAX_PER_ORGANISATION: usize = 1_000;

/// The defaults of a session, for queries that do not specify them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::server) struct SessionOptions {
    pub time_zone: Option<String>,
    pub schema: Option<String>,
    /// Whether timestamps of results have no time zone; their values are in UTC.
    pub zoneless_timestamps: bool,
}

impl SessionOptions {
    /// Sets one option.
    pub fn set(&mut self, option: SessionOption) {
        match option {
            SessionOption::TimeZone(zone) => self.time_zone = Some(zone),
            SessionOption::Schema(schema) => self.schema = Some(schema),
            SessionOption::ZonelessTimestamps(zoneless) => self.zoneless_timestamps = zoneless,
        }
    }

    /// Returns the options that matter to the engine.
    pub fn to_engine_options(&self) -> Vec<SessionOption> {
        let zone = self.time_zone.clone().map(SessionOption::TimeZone);
        let schema = self.schema.clone().map(SessionOption::Schema);
        zone.into_iter().chain(schema).collect()
    }
}

/// The options of an organisation's sessions by credential, and when they were last used.
type OrganisationSessions = HashMap<String, (SessionOptions, Stopwatch)>;

/// The options of all sessions. They are no cache, since a client relies on the options that it has set: only idle ones may
/// leave, and none because of another organisation. `quick_cache` promises neither.
#[derive(Debug)]
pub(in crate::server) struct Sessions {
    known: Mutex<HashMap<OrganisationId, OrganisationSessions>>,
    idle_timeout: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

impl Sessions {
    /// Returns the options of the session of `principal`, and marks them as used.
    pub fn options(&self, principal: &Principal) -> SessionOptions {
        let mut all = self.lock();
        let known = all.get_mut(&principal.organisation_id);
        match known.and_then(|known| known.get_mut(&session_key(principal))) {
            Some((options, used)) if used.elapsed() < self.idle_timeout => {
                *used = Stopwatch::start();
                options.clone()
            }
            _ => SessionOptions::default(),
        }
    }

    /// Changes the options of the session of `principal`.
    pub fn set(&self, principal: &Principal, change: impl FnOnce(&mut SessionOptions)) {
        let mut all = self.lock();
        let known = all.entry(principal.organisation_id).or_default();
        let key = session_key(principal);
        if known.len() >= MAX_PER_ORGANISATION && !known.contains_key(&key) {
            known.retain(|_, (_, used)| used.elapsed() < self.idle_timeout);
            let idlest = known.iter().max_by_key(|(_, (_, used))| used.elapsed());
            if let Some(idlest) = idlest.map(|(key, _)| key.clone())
                && known.len() >= MAX_PER_ORGANISATION
            {
                known.remove(&idlest);
            }
        }
        let (mut options, _) = known
            .remove(&key)
            .filter(|(_, used)| used.elapsed() < self.idle_timeout)
            .unwrap_or_else(|| (SessionOptions::default(), Stopwatch::start()));
        change(&mut options);
        known.insert(key, (options, Stopwatch::start()));
    }

    /// Removes the options of the session.
    pub fn close(&self, principal: &Principal) {
        let mut all = self.lock();
        if let Some(known) = all.get_mut(&principal.organisation_id) {
            known.remove(&session_key(principal));
            if known.is_empty() {
                all.remove(&principal.organisation_id);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OrganisationId, OrganisationSessions>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn session_key(principal: &Principal) -> String {
    match &principal.proof {
        Proof::Session { id, .. } => format!("session {id}"),
        Proof::Key { id, .. } => format!("key {id}"),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{Role, UserId};

    fn principal() -> Principal {
        Principal {
            organisation_id: OrganisationId(Uuid::nil()),
            organisation: "one".to_owned(),
            user_id: UserId(Uuid::nil()),
            user: "user@one.example".to_owned(),
            role: Role::Analyst,
            may_ingest: false,
            proof: Proof::Key {
                id: "key".into(),
                expires_at: None,
            },
            grants: Vec::new(),
            write_grants: Vec::new(),
        }
    }

    #[test]
    fn set_after_the_idle_time_forgets_former_options() {
        for (idle_timeout, expected) in [
            (IDLE_TIMEOUT, Some("Europe/Berlin".to_owned())),
            // Every session is idle at once.
            (Duration::ZERO, None),
        ] {
            let sessions = Sessions {
                idle_timeout,
                ..Sessions::default()
            };
            let one = principal();
            sessions.set(&one, |options| {
                options.set(SessionOption::TimeZone("Europe/Berlin".to_owned()));
            });
            sessions.set(&one, |options| {
                options.set(SessionOption::Schema("archive".to_owned()));
            });
            let known = sessions.lock();
            let (options, _) = &known[&one.organisation_id][&session_key(&one)];
            assert_eq!(options.time_zone, expected);
            assert_eq!(options.schema.as_deref(), Some("archive"));
        }
    }
}
