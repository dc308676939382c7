//! Limits per organisation and user, so that none of them can fill the shared database.

use chrono::TimeDelta;

use super::database::{Executor, values};
use super::{AccessChange, OrganisationStore, StoreError};
use crate::config::AuthSettings;
use crate::model::{OrganisationId, UserId};

/// Actions that take access away. They are never refused.
const ALWAYS_ALLOWED: [&str; 5] = [
    "user.deactivate",
    "user.remove",
    "key.revoke",
    "session.revoke",
    "session.revoke-all",
];

/// Limits on keys, sessions and administrative changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// The maximum number of an organisation's keys that are neither revoked nor expired.
    pub keys_per_organisation: u64,
    /// The maximum number of a user's sessions. Beyond it, revoked sessions are deleted first, then the oldest.
    pub sessions_per_user: u64,
    /// The maximum number of changes that a user may make within 24 hours, as an administrator or to the user's own
    /// password.
    pub changes_per_day: u64,
}

impl From<&AuthSettings> for AccountLimits {
    fn from(settings: &AuthSettings) -> Self {
        Self {
            keys_per_organisation: settings.keys_per_organisation,
            sessions_per_user: settings.sessions_per_user,
            changes_per_day: settings.changes_per_day,
        }
    }
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            keys_per_organisation: 1_000,
            sessions_per_user: 1_000,
            changes_per_day: 5_000,
        }
    }
}

impl OrganisationStore {
    /// Returns the same store with other limits.
    #[must_use]
    pub fn with_account_limits(mut self, caps: AccountLimits) -> Self {
        self.account_limits = caps;
        self
    }

    /// Deletes the sessions of a user that are beyond the maximum: revoked ones first, then the oldest.
    pub(super) async fn trim_sessions(&self, user: UserId) -> Result<(), StoreError> {
        let count = include_str!("sql/sessions_count.sql");
        let row = (&self.database).row(count, values![user]).await?;
        let count = row.map_or(Ok(0), |row| row.count("n"))?;
        if count <= self.account_limits.sessions_per_user {
            return Ok(());
        }
        let mut change = self.database.begin().await?;
        // The new revision makes servers end the requests that run in the deleted sessions.
        change
            .execute(include_str!("sql/revise.sql"), values![])
            .await?;
        let values = values![user, self.account_limits.sessions_per_user];
        change
            .execute(include_str!("sql/sessions_trim.sql"), values)
            .await?;
        change.commit().await
    }
}

impl AccessChange {
    /// Refuses a further key for an organisation that has reached its limit.
    pub(super) async fn check_key_limit(
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
                "key limit reached: the organisation has {count} valid keys, and the limit is {max}; revoke some with \
                 `plantlake key revoke`, or raise the setting auth.keys_per_organisation"
            )));
        }
        Ok(())
    }

    /// Refuses a change by a user who has reached the limit of changes within a day. Operators are not limited.
    pub(super) async fn check_change_rate(
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
        // Only the organisation's last `seen` entries are searched, which bounds the cost.
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
