//! Changes of access, each of which is a transaction with its entries in the audit trail.

use chrono::{DateTime, TimeDelta, Utc};

use super::actor::Actor;
use super::audit_entry::{NewAuditEntry, append};
use crate::clock;
use crate::model::{OrganisationId, TextKind, printable};
use crate::store::account_limits::AccountLimits;
use crate::store::backend::database::{Executor, StoreTransaction, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The maximum length of an actor in the audit trail, in characters.
const MAX_ACTOR_CHARS: usize = 300;
/// The maximum size of the details of an entry of the audit trail, in bytes.
const MAX_DETAILS_BYTES: usize = 1 << 20;

/// Actions that take access away. They are never refused.
const ALWAYS_ALLOWED: [&str; 5] = [
    "user.deactivate",
    "user.remove",
    "key.revoke",
    "session.revoke",
    "session.revoke-all",
];

impl OrganisationStore {
    /// Begins a change of access. Waits until no other change is in progress.
    pub(in crate::store) async fn begin_change(
        &self,
        actor: &Actor,
    ) -> Result<AccessChange, StoreError> {
        let mut change = self.database.begin().await?;
        change
            .execute(include_str!("../sql/revise.sql"), values![])
            .await?;
        Ok(self.access_change(change, actor))
    }

    /// Begins an addition to the audit trail that changes nobody's access. Waits until no change is in progress. The
    /// revision stays the same, so servers reload nothing.
    pub(in crate::store) async fn begin_audit_only(
        &self,
        actor: &Actor,
    ) -> Result<AccessChange, StoreError> {
        let mut change = self.database.begin().await?;
        change
            .execute(include_str!("../sql/access_take.sql"), values![])
            .await?;
        Ok(self.access_change(change, actor))
    }

    /// Returns a change in the transaction `change`.
    pub(in crate::store) fn access_change(
        &self,
        change: StoreTransaction,
        actor: &Actor,
    ) -> AccessChange {
        AccessChange {
            change,
            actor: Actor(printable(&actor.0, MAX_ACTOR_CHARS)),
            at: clock::now(),
            caps: self.account_limits,
        }
    }
}

/// A change of access in progress. It is rolled back if dropped without a commit.
pub(in crate::store) struct AccessChange {
    pub(in crate::store) change: StoreTransaction,
    pub(in crate::store) actor: Actor,
    pub(in crate::store) at: DateTime<Utc>,
    caps: AccountLimits,
}

impl AccessChange {
    /// Records the change in the audit trail and commits it.
    pub(in crate::store) async fn commit(
        mut self,
        action: &'static str,
        organisation: Option<OrganisationId>,
        subject: &str,
        details: serde_json::Value,
    ) -> Result<(), StoreError> {
        self.write(action, organisation, subject, details).await?;
        self.change.commit().await
    }

    /// Records one part of the change in the audit trail.
    pub(in crate::store) async fn write(
        &mut self,
        action: &'static str,
        organisation: Option<OrganisationId>,
        subject: &str,
        details: serde_json::Value,
    ) -> Result<(), StoreError> {
        self.check_change_rate(action, organisation).await?;
        TextKind::AuditSubject.check(subject)?;
        let details = details.to_string();
        if details.len() > MAX_DETAILS_BYTES {
            return Err(StoreError::Refused(format!(
                "the change has {} bytes of details for the audit trail; the limit is {MAX_DETAILS_BYTES}; \
                 split it into smaller changes",
                details.len()
            )));
        }
        let entry = NewAuditEntry {
            at: self.at,
            actor: &self.actor,
            action,
            organisation,
            subject,
            details: &details,
        };
        append(&mut self.change, &entry).await
    }
    /// Refuses a further key for an organisation that has reached its limit.
    pub(in crate::store) async fn check_key_limit(
        &mut self,
        organisation: OrganisationId,
    ) -> Result<(), StoreError> {
        let values = values![organisation, self.at];
        let row = self
            .change
            .row(include_str!("../sql/keys_count.sql"), values)
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
    async fn check_change_rate(
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
            .row(include_str!("../sql/audit_nth.sql"), values)
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
