//! Closed months. Months are closed in order and never change afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::json;

use super::requests::UsageTotals;
use super::usage_hash::{DerivedTotals, derive_totals};
use crate::clock;
use crate::model::{Month, OrganisationId};
use crate::store::access::access_change::AccessChange;
use crate::store::access::actor::Actor;
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// A closed month of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageStatement {
    /// The organisation that pays.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The month.
    pub month: Month,
    /// The time of closing.
    pub closed_at: DateTime<Utc>,
    /// The author of the closing.
    pub closed_by: String,
    /// Totals of billable requests.
    #[serde(flatten)]
    pub totals: UsageTotals,
    /// The number of billable requests that ended in an earlier month, which was already closed.
    pub late_requests: u64,
    /// SHA-256 over the month's records, in hexadecimal.
    pub records_hash: String,
}

/// The result of closing a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// The statement of the month.
    #[serde(flatten)]
    pub statement: UsageStatement,
    /// Whether the month was already closed.
    pub already: bool,
}

impl UsageStatement {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            organisation_id: OrganisationId(row.id("organization_id")?),
            organisation: row.get("organization")?,
            month: row.month("billing_month")?,
            closed_at: row.time("closed_at")?,
            closed_by: row.get("closed_by")?,
            totals: UsageTotals::from_row(row)?,
            late_requests: row.count("late_requests")?,
            records_hash: row.get("records_hash")?,
        })
    }

    /// Whether the statement agrees with the ledger.
    pub(in crate::store) fn matches_ledger(&self, derived: &DerivedTotals) -> bool {
        self.totals == derived.totals
            && self.late_requests == derived.late_requests
            && self.records_hash == derived.hash
    }
}

pub(in crate::store) async fn statements(
    database: &mut impl Executor,
    organisation: Option<OrganisationId>,
    months: RangeInclusive<Month>,
) -> Result<Vec<UsageStatement>, StoreError> {
    let values = values![
        organisation,
        months.start().to_string(),
        months.end().to_string()
    ];
    let rows = database
        .rows(include_str!("../sql/usage_statements.sql"), values)
        .await?;
    let found = rows.iter().map(UsageStatement::from_row);
    let mut found = found.collect::<Result<Vec<_>, _>>()?;
    found.sort_by_cached_key(|statement| {
        let organisation = (statement.organisation.clone(), statement.organisation_id);
        (organisation, statement.month)
    });
    Ok(found)
}

/// Returns the months up to `last` in which organisations have records.
pub(in crate::store) async fn months_with_records(
    database: &mut impl Executor,
    organisation: Option<OrganisationId>,
    last: Month,
) -> Result<BTreeSet<(OrganisationId, Month)>, StoreError> {
    let values = values![organisation, last.to_string()];
    let rows = database
        .rows(include_str!("../sql/usage_months.sql"), values)
        .await?;
    let read = |row: &Row| {
        let organisation = OrganisationId(row.id("organization_id")?);
        Ok((organisation, row.month("billing_month")?))
    };
    rows.iter().map(read).collect()
}

impl OrganisationStore {
    /// Returns the statements of closed months, by organisation and month.
    pub async fn usage_statements(
        &self,
        organisation: Option<OrganisationId>,
        months: RangeInclusive<Month>,
    ) -> Result<Vec<UsageStatement>, StoreError> {
        statements(&mut &self.database, organisation, months).await
    }

    /// Closes a month of one organisation or of all: all of them or none. An already closed month stays as it is; closing
    /// it again fails if the ledger no longer agrees with its statement.
    pub async fn close_month(
        &self,
        actor: &Actor,
        month: Month,
        organisation: Option<OrganisationId>,
    ) -> Result<Vec<Closing>, StoreError> {
        let ahead = self.derive_before_lock(month, organisation).await?;
        let mut change = self.access_change(self.database.begin().await?, actor);
        // From here until the end, no other transaction can add to the ledger or close a month.
        change
            .change
            .execute(include_str!("../sql/usage_take.sql"), values![])
            .await?;
        let end = month.next().start();
        if change.at < end {
            return Err(StoreError::Refused(format!(
                "{month} has not ended; it can be closed from {} on",
                end.to_rfc3339_opts(SecondsFormat::Secs, true)
            )));
        }
        let database = &mut change.change;
        let used = months_with_records(database, organisation, month).await?;
        let closed = statements(database, organisation, Month::FIRST..=month).await?;
        let organisations = database
            .rows(include_str!("../sql/organisations.sql"), values![])
            .await?;
        let mut names = Vec::new();
        for row in &organisations {
            let (id, name): (_, String) = (OrganisationId(row.id("id")?), row.get("name")?);
            let is_meant = organisation.is_none_or(|meant| meant == id);
            // An organisation created after the month has nothing to close and is left out.
            if is_meant && (row.time("created_at")? < end || used.contains(&(id, month))) {
                names.push((id, name));
            }
        }
        check_order(month, &used, &closed, &names)?;
        // Every transaction that adds to the audit trail holds this lock.
        change
            .change
            .execute(include_str!("../sql/access_take.sql"), values![])
            .await?;
        let mut before: HashSet<OrganisationId> = HashSet::new();
        for (id, name) in &names {
            let count = include_str!("../sql/usage_count.sql");
            let count = change
                .change
                .row(count, values![*id, month.to_string()])
                .await?;
            let count = count.map_or(Ok(0), |row| row.count("records"))?;
            // Records are never removed from the ledger: if the counts are equal, the records are the same.
            let derived = match ahead.get(id) {
                Some(derived) if derived.records == count => derived.clone(),
                _ => derive_totals(&mut change.change, *id, month).await?,
            };
            let closed = closed
                .iter()
                .find(|statement| statement.organisation_id == *id && statement.month == month);
            if let Some(statement) = closed {
                if !statement.matches_ledger(&derived) {
                    return Err(StoreError::Refused(format!(
                        "{month} of {name} is closed, but the ledger no longer matches its statement; \
                         `plantlake usage verify --month {month}` shows the differences"
                    )));
                }
                before.insert(*id);
                continue;
            }
            change.add_statement(*id, month, &derived).await?;
        }
        let made = statements(&mut change.change, organisation, month..=month).await?;
        change.change.commit().await?;
        let closings = made.into_iter().map(|statement| Closing {
            already: before.contains(&statement.organisation_id),
            statement,
        });
        Ok(closings.collect())
    }

    /// Derives a month while others continue to add to the ledger, because that may take long.
    async fn derive_before_lock(
        &self,
        month: Month,
        organisation: Option<OrganisationId>,
    ) -> Result<HashMap<OrganisationId, DerivedTotals>, StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let used = months_with_records(&mut snapshot, organisation, month).await?;
        let mut found = HashMap::new();
        if month < Month::containing(clock::now()) {
            for (id, _) in used.into_iter().filter(|(_, of)| *of == month) {
                found.insert(id, derive_totals(&mut snapshot, id, month).await?);
            }
        }
        Ok(found)
    }
}

impl AccessChange {
    async fn add_statement(
        &mut self,
        organisation: OrganisationId,
        month: Month,
        derived: &DerivedTotals,
    ) -> Result<(), StoreError> {
        let totals = &derived.totals;
        let values = values![
            organisation,
            month.to_string(),
            self.at,
            &self.actor.0,
            totals.requests,
            derived.late_requests,
            totals.rows,
            totals.bytes_sent,
            totals.bytes_scanned,
            &derived.hash
        ];
        self.change
            .execute(include_str!("../sql/usage_statement_add.sql"), values)
            .await?;
        let details = json!({
            "records": derived.records, "totals": totals, "late_requests": derived.late_requests,
            "records_hash": derived.hash,
        });
        self.write(
            "usage.close",
            Some(organisation),
            &month.to_string(),
            details,
        )
        .await
    }
}

/// Refuses to close a month while an earlier month with usage is open. A late record goes into the first open month,
/// which must not precede a closed one.
fn check_order(
    month: Month,
    used: &BTreeSet<(OrganisationId, Month)>,
    closed: &[UsageStatement],
    names: &[(OrganisationId, String)],
) -> Result<(), StoreError> {
    let closed: HashSet<_> = closed
        .iter()
        .map(|statement| (statement.organisation_id, statement.month))
        .collect();
    let mut open = used
        .iter()
        .filter(|of| of.1 < month && !closed.contains(of))
        .filter_map(|(id, earlier)| {
            let name = names.iter().find(|(known, _)| known == id);
            name.map(|(_, name)| (*earlier, name))
        })
        .collect::<Vec<_>>();
    open.sort();
    let Some((first, _)) = open.first().copied() else {
        return Ok(());
    };
    let listed: Vec<String> = open
        .iter()
        .take(5)
        .map(|(earlier, name)| format!("{earlier} of {name}"))
        .collect();
    let more = match open.len().saturating_sub(listed.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(StoreError::Refused(format!(
        "{month} cannot be closed while earlier months with usage are open: {}{more}; \
         close those first, with `plantlake usage close {first}`",
        listed.join(", ")
    )))
}
