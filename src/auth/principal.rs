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
    /// Whether readings may be sent.
    pub may_ingest: bool,
    /// How it was proved.
    pub proof: Proof,
    /// What the organisation may see; nothing, if empty.
    pub grants: Vec<Grant>,
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
            || !self.grants.contains(&Grant::All)
                && before
                    .grants
                    .iter()
                    .any(|grant| !self.grants.contains(grant))
    }
}
