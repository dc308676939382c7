//! The audit trail: who changed what, and when. The database itself refuses to change or delete an entry.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::chain::{AuditRow, Chain, ChainKind};
use super::database::{Change, Executor, Row, values};
use super::{Actor, OrganisationStore, StoreError};
use crate::model::OrganisationId;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number; later ones are greater.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What, such as `user.create`.
    pub action: String,
    /// In which organisation.
    pub organisation_id: Option<OrganisationId>,
    /// Its name.
    pub organisation: Option<String>,
    /// To whom or what.
    pub subject: String,
    /// The particulars.
    pub details: serde_json::Value,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this organisation only.
    pub organisation: Option<OrganisationId>,
    /// At most so many, the last ones.
    pub last: i64,
}

/// Sign-ins of one account that failed, taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSignIns {
    /// The organisation that has a user of this address; none where nobody has.
    pub organisation: Option<OrganisationId>,
    /// The address that was given, fit to be printed.
    pub account: String,
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first: DateTime<Utc>,
    /// When the last was.
    pub last: DateTime<Utc>,
    /// Where they came from; some of them, if there are many.
    pub addresses: Vec<String>,
    /// Whether there are more addresses.
    pub has_more_addresses: bool,
}

impl FailedSignIns {
    /// What such entries are called in the audit trail.
    pub const ACTION: &str = "sign-in.fail";
    /// Who made them, as the audit trail has it.
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

    fn read(row: &Row) -> Result<Self, StoreError> {
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

/// An entry that is about to be added.
pub(super) struct NewAuditEntry<'a> {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: &'a Actor,
    /// What.
    pub action: &'a str,
    /// In which organisation.
    pub organisation: Option<OrganisationId>,
    /// To whom or what.
    pub subject: &'a str,
    /// The particulars, as JSON.
    pub details: &'a str,
}

/// Appends an entry to the audit trail and to its organisation's chain. Every entry comes this way; the caller's transaction
/// holds the row of `access_revision`, so that no two wait for each other's chains.
pub(super) async fn append(
    change: &mut Change,
    entry: &NewAuditEntry<'_>,
) -> Result<(), StoreError> {
    let mut chain = Chain::lock(change, ChainKind::Audit, entry.organisation).await?;
    let (next_id, add) = match change {
        Change::Sqlite(_) => (
            include_str!("sql/audit_next_id.sqlite.sql"),
            include_str!("sql/audit_add.sqlite.sql"),
        ),
        Change::Postgres(_) => (
            include_str!("sql/audit_next_id.postgres.sql"),
            include_str!("sql/audit_add.postgres.sql"),
        ),
    };
    let id = change.row(next_id, values![]).await?;
    let id: i64 = id
        .ok_or_else(|| StoreError::damaged("id", &"no sequence"))?
        .get("id")?;
    let link = chain.append(&AuditRow {
        id,
        at: entry.at,
        actor: &entry.actor.0,
        action: entry.action,
        organisation: entry.organisation.map(|organisation| organisation.0),
        subject: entry.subject,
        details: entry.details,
    })?;
    let values = values![
        id,
        entry.at,
        &entry.actor.0,
        entry.action,
        entry.organisation,
        entry.subject,
        entry.details,
        link.sequence,
        link.hash.as_slice()
    ];
    change.execute(add, values).await?;
    chain.store(change).await
}

impl OrganisationStore {
    /// The last changes, the latest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let values = values![filter.organisation, filter.last];
        let rows = (&self.database)
            .rows(include_str!("sql/audit.sql"), values)
            .await?;
        rows.iter().map(AuditEntry::read).collect()
    }

    /// Adds failed sign-ins to the trail. Nobody's access changes.
    pub async fn note_failed_sign_ins(&self, failed: &[FailedSignIns]) -> Result<(), StoreError> {
        let actor = Actor(FailedSignIns::ACTOR.to_owned());
        let mut note = self.note_only(&actor).await?;
        for one in failed {
            let action = FailedSignIns::ACTION;
            note.write(action, one.organisation, &one.account, one.details())
                .await?;
        }
        note.change.commit().await
    }

    /// Notes an administrative change that is not in this database, such as a new signing key.
    pub async fn note(
        &self,
        actor: &Actor,
        action: &'static str,
        subject: &str,
    ) -> Result<(), StoreError> {
        self.change(actor)
            .await?
            .commit(action, None, subject, json!({}))
            .await
    }
}
