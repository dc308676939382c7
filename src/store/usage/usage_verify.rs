//! Verifies that bills agree with the ledger: derives totals and hashes again, and compares them with all stored
//! copies.

use std::collections::BTreeSet;

use serde::Serialize;

use super::requests::UsageTotals;
use super::usage_hash::{DerivedTotals, derive_totals};
use super::usage_statements::{UsageStatement, months_with_records, statements};
use crate::model::{Month, OrganisationId};
use crate::store::backend::database::{Executor, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The result of verifying a month of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The organisation's id.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The month.
    pub month: Month,
    /// Whether the month is closed.
    pub closed: bool,
    /// The number of the month's records in the ledger, billable or not.
    pub records: u64,
    /// Totals of the billable records.
    #[serde(flatten)]
    pub totals: UsageTotals,
    /// The number of billable requests that ended in an earlier month.
    pub late_requests: u64,
    /// SHA-256 over the records, in hexadecimal.
    pub records_hash: String,
    /// The differences found; empty if everything agrees.
    pub differences: Vec<Difference>,
}

/// A difference between a stored and a derived value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The place of the stored value: `statement`, `usage_totals`, `audit_trail`.
    pub place: &'static str,
    /// The quantity, such as `bytes_sent`.
    pub what: &'static str,
    /// The stored value.
    pub written: String,
    /// The value in the ledger; for the audit trail, the value in the statement.
    pub derived: String,
}

/// The values for a month that `usage_totals` and the audit trail store.
struct StoredTotals {
    totals: UsageTotals,
    /// The hash with which the month was closed.
    closed_as: Option<String>,
}

impl OrganisationStore {
    /// Returns the months that have records or statements.
    pub async fn months_used(
        &self,
        organisation: Option<OrganisationId>,
    ) -> Result<Vec<Month>, StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let closed = statements(&mut snapshot, organisation, Month::FIRST..=Month::LAST).await?;
        let used = months_with_records(&mut snapshot, organisation, Month::LAST).await?;
        let mut months: BTreeSet<Month> = used.into_iter().map(|(_, month)| month).collect();
        months.extend(closed.iter().map(|statement| statement.month));
        Ok(months.into_iter().collect())
    }

    /// Derives a month again, of one organisation or of all that have records or stored values of it. Everything is
    /// read from one snapshot.
    pub async fn verify_month(
        &self,
        month: Month,
        organisation: Option<OrganisationId>,
    ) -> Result<Vec<Verification>, StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let closed = statements(&mut snapshot, organisation, month..=month).await?;
        let used = months_with_records(&mut snapshot, organisation, month).await?;
        let totals = include_str!("../sql/usage_totals.sql");
        let totals = snapshot.rows(totals, values![month.to_string()]).await?;
        let organisations = snapshot
            .rows(include_str!("../sql/organisations.sql"), values![])
            .await?;
        let mut found = Vec::new();
        for row in &organisations {
            let (id, name): (_, String) = (OrganisationId(row.id("id")?), row.get("name")?);
            if organisation.is_some_and(|meant| meant != id) {
                continue;
            }
            let mut kept = StoredTotals {
                totals: UsageTotals::default(),
                closed_as: closed_as(&mut snapshot, id, month).await?,
            };
            let mut is_there = used.contains(&(id, month)) || kept.closed_as.is_some();
            for row in &totals {
                if row.id("organization_id")? == id.0 {
                    is_there = true;
                    kept.totals = UsageTotals::from_row(row)?;
                }
            }
            let statement = closed
                .iter()
                .find(|statement| statement.organisation_id == id);
            if !is_there && statement.is_none() {
                continue;
            }
            let derived = derive_totals(&mut snapshot, id, month).await?;
            found.push(Verification {
                organisation_id: id,
                organisation: name,
                month,
                closed: statement.is_some(),
                differences: differences(&derived, &kept, statement),
                records: derived.records,
                totals: derived.totals,
                late_requests: derived.late_requests,
                records_hash: derived.hash,
            });
        }
        found.sort_by(|one, other| one.organisation.cmp(&other.organisation));
        Ok(found)
    }
}

/// Returns the hash with which a month was closed, according to the audit trail.
async fn closed_as(
    database: &mut impl Executor,
    organisation: OrganisationId,
    month: Month,
) -> Result<Option<String>, StoreError> {
    let values = values![organisation, month.to_string()];
    let entry = database
        .row(include_str!("../sql/usage_closed_as.sql"), values)
        .await?;
    let Some(entry) = entry else { return Ok(None) };
    let details: String = entry.get("details")?;
    let details: serde_json::Value =
        serde_json::from_str(&details).map_err(|error| StoreError::damaged("details", &error))?;
    let hash = details.get("records_hash").and_then(|hash| hash.as_str());
    Ok(Some(hash.unwrap_or_default().to_owned()))
}

fn differences(
    derived: &DerivedTotals,
    kept: &StoredTotals,
    statement: Option<&UsageStatement>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |place, what, written: String, derived: String| {
        if written != derived {
            found.push(Difference {
                place,
                what,
                written,
                derived,
            });
        }
    };
    let sums = |totals: &UsageTotals| {
        [
            ("requests", totals.requests),
            ("rows", totals.rows),
            ("bytes_sent", totals.bytes_sent),
            ("bytes_scanned", totals.bytes_scanned),
        ]
    };
    let mut totals = |place, written: &UsageTotals| {
        for ((what, written), (_, derived)) in sums(written).into_iter().zip(sums(&derived.totals))
        {
            compare(place, what, written.to_string(), derived.to_string());
        }
    };
    totals("usage_totals", &kept.totals);
    if let Some(statement) = statement {
        totals("statement", &statement.totals);
        compare(
            "statement",
            "late_requests",
            statement.late_requests.to_string(),
            derived.late_requests.to_string(),
        );
        compare(
            "statement",
            "records_hash",
            statement.records_hash.clone(),
            derived.hash.clone(),
        );
    }
    // Someone who changes the ledger may change the statement, too; the audit trail would have to be changed as well.
    let none = || "none".to_owned();
    let closed = statement.map(|statement| statement.records_hash.clone());
    compare(
        "audit_trail",
        "records_hash",
        kept.closed_as.clone().unwrap_or_else(none),
        closed.unwrap_or_else(none),
    );
    found
}
