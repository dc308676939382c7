//! The authenticated caller: user, organisation, role and proof.

use chrono::{DateTime, Utc};
use ecow::EcoString;
use serde::Serialize;

use crate::model::{Grant, OrganisationId, Role, SessionId, UserId};

/// The authenticated caller. It alone determines what a request may see and do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// The organisation.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The user.
    pub user_id: UserId,
    /// The user's e-mail address.
    pub user: String,
    /// The user's current role.
    pub role: Role,
    /// Whether both the user and the credential may send readings, for the assets in `write_grants`.
    pub may_ingest: bool,
    /// The proof with which the caller authenticated.
    pub proof: Proof,
    /// The assets that the organisation may see; none if empty.
    pub grants: Vec<Grant>,
    /// The assets that readings may be sent for, a subset of `grants`. Only the operator sets them.
    pub write_grants: Vec<Grant>,
}

/// The proof with which a caller authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// With a password at sign-in, and with tokens of the session since then.
    Session {
        /// The session.
        id: SessionId,
        /// The id of the key that signed the token.
        signing_key: String,
        /// The time at which the token expires.
        expires_at: DateTime<Utc>,
    },
    /// With an API key.
    Key {
        /// The key's public part.
        id: EcoString,
        /// The time at which the key expires; `None` for never.
        expires_at: Option<DateTime<Utc>>,
    },
}

impl Proof {
    /// Returns the time at which the credential expires; `None` for never.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Session { expires_at, .. } => Some(*expires_at),
            Self::Key { expires_at, .. } => *expires_at,
        }
    }
}

impl Principal {
    /// Whether this principal has fewer permissions than `before`. If so, requests that began as `before` must end.
    pub(super) fn has_fewer_permissions_than(&self, before: &Self) -> bool {
        self.organisation_id != before.organisation_id
            || self.role != before.role
            || (before.may_ingest && !self.may_ingest)
            || lacks_any_of(&self.grants, &before.grants)
            || lacks_any_of(&self.write_grants, &before.write_grants)
    }
}

/// Whether a rule of `before` is missing from `now`, which does not grant everything either.
fn lacks_any_of(now: &[Grant], before: &[Grant]) -> bool {
    !now.contains(&Grant::All) && before.iter().any(|rule| !now.contains(rule))
}
