//! What one organisation or user may have at most, so that none can fill the database that all share.

use chrono::TimeDelta;

use super::database::{Executor, values};
use super::{AccessChange, OrganisationStore, StoreError};
use crate::config::AuthSettings;
use crate::model::{OrganisationId, UserId};

/// Changes that take access away are never refused.
const ALWAYS_ALLOWED: [&str; 5] = [
    "user.deactivate",
    "user.remove",
    "key.revoke",
    "session.revoke",
    "session.revoke-all",
];

/// The maxima.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountCaps {
    /// Keys of an organisation that are neither revoked nor expired.
    pub keys_per_organisation: u64,
    /// Sessions of a user; the oldest makes room for the next.
    pub sessions_per_user: u64,
    /// Changes that one user makes within 24 hours as an administrator, or of the own password.
    pub changes_per_day: u64,
}

impl From<&AuthSettings> for AccountCaps {
    fn from(settings: &AuthSettings) -> Self {
        Self {
            keys_per_organisation: settings.keys_per_organisation,
            sessions_per_user: settings.sessions_per_user,
            changes_per_day: settings.changes_per_day,
        }
    }
}

impl Default for AccountCaps {
    fn default() -> Self {
        Self {
            keys_per_organisation: 1_000,
            sessions_per_user: 1_000,
            changes_per_day: 5_000,
        }
    }
}

impl OrganisationStore {
    /// The same store with other maxima.
    #[must_use]
    pub fn with_caps(mut self, caps: AccountCaps) -> Self {
        self.caps = caps;
        self
    }

    /// Deletes the sessions of a user that are beyond the maximum: revoked ones first, then the oldest.
    pub(super) async fn trim_sessions(&self, user: UserId) -> Result<(), StoreError> {
        let count = include_str!("sql/sessions_count.sql");
        let row = (&self.database).row(count, values![user]).await?;
        let count = row.map_or(Ok(0), |row| row.count("n"))?;
        if count <= self.caps.sessions_per_user {
            return Ok(());
        }
        let mut change = self.database.begin().await?;
        // Servers look again, and end what runs in these sessions.
        change
            .execute(include_str!("sql/revise.sql"), values![])
            .await?;
        let values = values![user, self.caps.sessions_per_user];
        change
            .execute(include_str!("sql/sessions_trim.sql"), values)
            .await?;
        change.commit().await
    }
}

impl AccessChange {
    /// Refuses one more key of an organisation that has as many as it may have.
    pub(super) async fn check_keys(
        &mut self,
        organisation: OrganisationId,
    ) -> Result<(), StoreError> {
        let values = values![organisation, self.at];
        let row = self
            .change
            .row(include_str!("sql/keys_count.sql"), values)
            .await?;
        let count = row.map_or(Ok(0), |row| row.count("n"))?;
        let max = self.caps.keys_per_organisation;
        if count >= max {
            return Err(StoreError::Refused(format!(
                "the organisation has {count} keys that are in force, and may have {max}; revoke some with \
                 `plantlake key revoke`, or raise the setting auth.keys_per_organisation"
            )));
        }
        Ok(())
    }

    /// Refuses a change of a user who made too many within a day; operators are not limited.
    pub(super) async fn check_rate(
        &mut self,
        action: &str,
        organisation: Option<OrganisationId>,
    ) -> Result<(), StoreError> {
        let max = self.caps.changes_per_day;
        let (Some(organisation), true) = (organisation, self.actor.is_user()) else {
            return Ok(());
        };
        if ALWAYS_ALLOWED.contains(&action) {
            return Ok(());
        }
        // Of the organisation's entries, those before are not looked at.
        let (offset, seen) = (max.saturating_sub(1), max.saturating_mul(4));
        let values = values![organisation, &self.actor.0, offset, seen];
        let row = self
            .change
            .row(include_str!("sql/audit_nth.sql"), values)
            .await?;
        let nth = row.map(|row| row.time("at")).transpose()?;
        let day = TimeDelta::days(1);
        match nth {
            Some(at) if self.at - at < day => Err(StoreError::Refused(format!(
                "you made {max} changes within 24 hours, which is the limit; the next is possible at {}",
                (at + day).format("%Y-%m-%dT%H:%MZ")
            ))),
            _ => Ok(()),
        }
    }
}
