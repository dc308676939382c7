//! The one who asks: user, organisation, role, and how that was proved.

use chrono::{DateTime, Utc};
use ecow::EcoString;
use serde::Serialize;

use crate::model::{Grant, OrganisationId, Role, SessionId, UserId};

/// The one who asks. What a request may see and do follows from it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// The organisation.
    pub organisation_id: OrganisationId,
    /// Its name.
    pub organisation: String,
    /// The user.
    pub user_id: UserId,
    /// The user's address.
    pub user: String,
    /// The user's role, as it is now.
    pub role: Role,
    /// Whether the user and the credential may send readings: for assets that `write_grants` allow.
    pub may_ingest: bool,
    /// How it was proved.
    pub proof: Proof,
    /// What the organisation may see; nothing, if empty.
    pub grants: Vec<Grant>,
    /// Those of `grants` for whose assets readings may be sent; only the operator sets them.
    pub write_grants: Vec<Grant>,
}

/// How someone proved who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// By a password, and then by tokens of the session.
    Session {
        /// The session.
        id: SessionId,
        /// The key that the token is signed with.
        signing_key: String,
        /// When the token ends by itself.
        expires_at: DateTime<Utc>,
    },
    /// By an API key.
    Key {
        /// The key's public part.
        id: EcoString,
        /// When the key ends by itself.
        expires_at: Option<DateTime<Utc>>,
    },
}

impl Proof {
    /// When it ends by itself.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Session { expires_at, .. } => Some(*expires_at),
            Self::Key { expires_at, .. } => *expires_at,
        }
    }
}

impl Principal {
    /// Whether this one may do less than `before`: then what began as `before` must end.
    pub(super) fn may_less_than(&self, before: &Self) -> bool {
        self.organisation_id != before.organisation_id
            || self.role != before.role
            || (before.may_ingest && !self.may_ingest)
            || lacks_some_of(&self.grants, &before.grants)
            || lacks_some_of(&self.write_grants, &before.write_grants)
    }
}

/// Whether one of the rules `before` is neither in `now` nor in what all of `now` allow.
fn lacks_some_of(now: &[Grant], before: &[Grant]) -> bool {
    !now.contains(&Grant::All) && before.iter().any(|rule| !now.contains(rule))
}
