//! Adds entries to the audit trail.

use chrono::{DateTime, Utc};

use super::actor::Actor;
use crate::model::OrganisationId;
use crate::store::backend::database::{Executor, StoreTransaction, values};
use crate::store::chain::{AuditRow, Chain, ChainKind};
use crate::store::error::StoreError;

/// An entry to be added.
pub(in crate::store) struct NewAuditEntry<'a> {
    /// The time of the change.
    pub at: DateTime<Utc>,
    /// The author of the change.
    pub actor: &'a Actor,
    /// The action.
    pub action: &'a str,
    /// The organisation concerned, if there is one.
    pub organisation: Option<OrganisationId>,
    /// The user, key or other object of the change.
    pub subject: &'a str,
    /// Details of the change, as JSON.
    pub details: &'a str,
}

/// Appends an entry to the audit trail and to its organisation's chain. Every entry is added here. The caller's
/// transaction holds the lock on the row of `access_revision`, so two transactions never wait for each other's chains.
pub(in crate::store) async fn append(
    change: &mut StoreTransaction,
    entry: &NewAuditEntry<'_>,
) -> Result<(), StoreError> {
    let mut chain = Chain::lock(change, ChainKind::Audit, entry.organisation).await?;
    let (next_id, add) = match change {
        StoreTransaction::Sqlite(_) => (
            include_str!("../sql/audit_next_id.sqlite.sql"),
            include_str!("../sql/audit_add.sqlite.sql"),
        ),
        StoreTransaction::Postgres(_) => (
            include_str!("../sql/audit_next_id.postgres.sql"),
            include_str!("../sql/audit_add.postgres.sql"),
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
