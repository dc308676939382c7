//! The audit trail: the author, action and time of each change. The database itself refuses to change or delete an
//! entry.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actor::Actor;
use crate::model::OrganisationId;
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// An entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The entry's number; later entries have greater numbers.
    pub id: i64,
    /// The time of the change.
    pub at: DateTime<Utc>,
    /// The author of the change.
    pub actor: String,
    /// The action, such as `user.create`.
    pub action: String,
    /// The organisation concerned, if there is one.
    pub organisation_id: Option<OrganisationId>,
    /// The organisation's name.
    pub organisation: Option<String>,
    /// The user, key or other object of the change.
    pub subject: String,
    /// Details of the change.
    pub details: serde_json::Value,
}

/// A selection of entries.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only entries of this organisation, if one is given.
    pub organisation: Option<OrganisationId>,
    /// The maximum number of entries; the latest are returned.
    pub last: i64,
}

/// Failed sign-ins of one account, combined in one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSignIns {
    /// The organisation that has a user with this address; `None` if there is none.
    pub organisation: Option<OrganisationId>,
    /// The address given, in printable form.
    pub account: String,
    /// The number of failed sign-ins.
    pub count: u64,
    /// The time of the first one.
    pub first: DateTime<Utc>,
    /// The time of the last one.
    pub last: DateTime<Utc>,
    /// The client addresses; only some of them if there are many.
    pub addresses: Vec<String>,
    /// Whether there are further client addresses.
    pub has_more_addresses: bool,
}

impl FailedSignIns {
    /// The action of such entries in the audit trail.
    pub const ACTION: &str = "sign-in.fail";
    /// The author of such entries in the audit trail.
    const ACTOR: &str = "unknown caller";

    fn details(&self) -> serde_json::Value {
        json!({
            "count": self.count, "first": self.first, "last": self.last,
            "addresses": self.addresses, "more_addresses": self.has_more_addresses,
        })
    }
}

impl AuditEntry {
    /// Whether an operator of the machine made the change.
    pub fn is_by_operator(&self) -> bool {
        self.actor.starts_with("operator ")
    }

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        let details: String = row.get("details")?;
        Ok(Self {
            id: row.get("id")?,
            at: row.time("at")?,
            actor: row.get("actor")?,
            action: row.get("action")?,
            organisation_id: row.optional_id("organization_id")?.map(OrganisationId),
            organisation: row.get("organization")?,
            subject: row.get("subject")?,
            details: serde_json::from_str(&details)
                .map_err(|error| StoreError::damaged("details", &error))?,
        })
    }
}

impl OrganisationStore {
    /// Returns the latest changes, the latest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let values = values![filter.organisation, filter.last];
        let rows = (&self.database)
            .rows(include_str!("../sql/audit.sql"), values)
            .await?;
        rows.iter().map(AuditEntry::from_row).collect()
    }

    /// Adds failed sign-ins to the audit trail. Nobody's access changes.
    pub async fn record_failed_sign_ins(&self, failed: &[FailedSignIns]) -> Result<(), StoreError> {
        let actor = Actor(FailedSignIns::ACTOR.to_owned());
        let mut note = self.begin_audit_only(&actor).await?;
        for one in failed {
            let action = FailedSignIns::ACTION;
            note.write(action, one.organisation, &one.account, one.details())
                .await?;
        }
        note.change.commit().await
    }

    /// Records an administrative change outside this database, such as a new signing key.
    pub async fn record_event(
        &self,
        actor: &Actor,
        action: &'static str,
        subject: &str,
    ) -> Result<(), StoreError> {
        self.begin_change(actor)
            .await?
            .commit(action, None, subject, json!({}))
            .await
    }
}
