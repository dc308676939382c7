//! The ledger of requests. Each request is added once, to the first month that is not closed, starting from the month
//! in which it ended.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use foldhash::fast::RandomState;
use serde::Serialize;
use uuid::Uuid;

use crate::model::{Month, OrganisationId, UsageRecord};
use crate::store::backend::database::{Executor, Row, StoreTransaction, Value, values};
use crate::store::chain::{Chain, ChainKind, LedgerRow, Link};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The number of columns of the ledger.
const COLUMNS: usize = 24;

/// A record and the month in which it is billed.
struct BilledRecord<'a> {
    record: &'a UsageRecord,
    billing_month: Month,
    /// The record's place in its organisation's chain.
    link: Link,
}

/// An interner for texts that records have in common.
#[derive(Default)]
struct TextInterner<'a> {
    texts: HashMap<&'a str, Arc<str>, RandomState>,
    months: BTreeMap<Month, Arc<str>>,
}

impl<'a> TextInterner<'a> {
    fn intern(&mut self, text: &'a str) -> Arc<str> {
        Arc::clone(self.texts.entry(text).or_insert_with(|| text.into()))
    }

    fn month_text(&mut self, month: Month) -> Arc<str> {
        let text = || month.to_string().into();
        Arc::clone(self.months.entry(month).or_insert_with(text))
    }
}

impl<'a> BilledRecord<'a> {
    /// Returns the record as parameters of a statement, in the order of the table's columns.
    fn values(&self, texts: &mut TextInterner<'a>) -> [Value; COLUMNS] {
        let UsageRecord {
            request_id,
            organisation_id,
            user_id,
            api_key_id,
            session_id,
            server_id,
            endpoint,
            sql_fingerprint,
            sql_text,
            started_at,
            ended_at,
            first_byte_microseconds,
            duration_microseconds,
            rows,
            bytes_sent,
            bytes_scanned,
            status,
            cancelled,
            client_address,
            client_agent,
            billable,
        } = self.record;
        [
            (*request_id).into(),
            (*organisation_id).into(),
            (*user_id).into(),
            api_key_id.as_deref().map(|id| texts.intern(id)).into(),
            session_id.map(|session| session.0).into(),
            (*server_id).into(),
            texts.intern(endpoint).into(),
            (sql_fingerprint.as_deref())
                .map(|fingerprint| texts.intern(fingerprint))
                .into(),
            sql_text.clone().into(),
            (*started_at).into(),
            (*ended_at).into(),
            texts.month_text(self.billing_month).into(),
            (*first_byte_microseconds).into(),
            (*duration_microseconds).into(),
            (*rows).into(),
            (*bytes_sent).into(),
            (*bytes_scanned).into(),
            texts.intern(status).into(),
            (*cancelled).into(),
            texts.intern(client_address).into(),
            texts.intern(client_agent).into(),
            (*billable).into(),
            self.link.sequence.into(),
            self.link.hash.as_slice().into(),
        ]
    }
}

/// The numbers of records that one statement adds. Sending a statement takes longer than adding a record.
const BATCH_SIZES: [usize; 4] = [128, 16, 4, 1];

/// A statement that adds a fixed number of records.
struct InsertStatement {
    records: usize,
    /// The text with the parameters `$1`, `$2`, …
    numbered: String,
    /// The text with positional parameters, `?`. SQLite treats `$1` as a name, and looks a name up by a linear search
    /// over all names before it: with some hundreds of parameters, that takes as long as adding the records.
    positional: String,
}

impl InsertStatement {
    fn new(records: usize) -> Self {
        let one = include_str!("../sql/usage_add.sql");
        let with = |parameter: &dyn Fn(usize) -> String| {
            let row = |row: usize| {
                let parameters: Vec<String> = (1..=COLUMNS)
                    .map(|column| parameter(row * COLUMNS + column))
                    .collect();
                format!("({})", parameters.join(", "))
            };
            let rows: Vec<String> = (0..records).map(row).collect();
            let mut sql = one.to_owned();
            // A test below ensures that both exist.
            if let (Some(open), Some(close)) = (one.find("($1"), one.find("$24)")) {
                sql.replace_range(open..close + "$24)".len(), &rows.join(",\n    "));
            }
            sql
        };
        Self {
            records,
            numbered: with(&|number| format!("${number}")),
            positional: with(&|_| "?".to_owned()),
        }
    }
}

static INSERT_STATEMENTS: LazyLock<[InsertStatement; 4]> =
    LazyLock::new(|| BATCH_SIZES.map(InsertStatement::new));

/// Adds the records that are not in the ledger yet. Returns their number.
async fn add(
    change: &mut StoreTransaction,
    records: &[BilledRecord<'_>],
) -> Result<u64, StoreError> {
    let mut added = 0;
    let mut rest = records;
    let mut values = Vec::new();
    let mut texts = TextInterner::default();
    for statement in &*INSERT_STATEMENTS {
        let sql = match change {
            StoreTransaction::Sqlite(_) => &statement.positional,
            StoreTransaction::Postgres(_) => &statement.numbered,
        };
        while let Some((chunk, others)) = rest.split_at_checked(statement.records) {
            values.clear();
            for record in chunk {
                values.extend(record.values(&mut texts));
            }
            added += change.execute(sql, &values).await?;
            rest = others;
        }
    }
    Ok(added)
}

/// Returns the records that are not in the ledger yet, each once.
async fn missing<'a>(
    change: &mut StoreTransaction,
    records: &'a [UsageRecord],
) -> Result<Vec<&'a UsageRecord>, StoreError> {
    let find = include_str!("../sql/usage_find.sql");
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for record in records {
        let is_new = seen.insert(record.request_id)
            && change
                .row(find, values![record.request_id])
                .await?
                .is_none();
        missing.extend(is_new.then_some(record));
    }
    Ok(missing)
}

/// Totals of billable requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsageTotals {
    /// The number of requests.
    pub requests: u64,
    /// Rows sent or ingested.
    pub rows: u64,
    /// Bytes of response messages, as encoded.
    pub bytes_sent: u64,
    /// Bytes read from the lake's files.
    pub bytes_scanned: u64,
}

impl UsageTotals {
    pub(in crate::store) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            requests: row.count("requests")?,
            rows: row.count("rows")?,
            bytes_sent: row.count("bytes_sent")?,
            bytes_scanned: row.count("bytes_scanned")?,
        })
    }

    /// Returns the totals of one billable request.
    pub fn from_record(record: &UsageRecord) -> Self {
        Self {
            requests: 1,
            rows: record.rows,
            bytes_sent: record.bytes_sent,
            bytes_scanned: record.bytes_scanned,
        }
    }

    /// Returns the sum of both totals.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            rows: self.rows.saturating_add(other.rows),
            bytes_sent: self.bytes_sent.saturating_add(other.bytes_sent),
            bytes_scanned: self.bytes_scanned.saturating_add(other.bytes_scanned),
        }
    }

    /// Returns the totals without `other`, which is a part of them.
    pub fn minus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            rows: self.rows.saturating_sub(other.rows),
            bytes_sent: self.bytes_sent.saturating_sub(other.bytes_sent),
            bytes_scanned: self.bytes_scanned.saturating_sub(other.bytes_scanned),
        }
    }
}

/// The current load of an organisation on a server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UsageDemand {
    /// Requests per second, including refused ones.
    pub requests_per_second: f64,
    /// Queries that run at the same time.
    pub running: u64,
}

/// Appends records to the chains of their organisations.
async fn extend_chains(
    change: &mut StoreTransaction,
    billed: &mut [BilledRecord<'_>],
) -> Result<(), StoreError> {
    let mut chains: HashMap<_, Chain> = HashMap::new();
    let mut months: HashMap<Month, String> = HashMap::new();
    for one in billed {
        let organisation = one.record.organisation_id;
        let chain = match chains.entry(organisation) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let chain = Chain::lock(change, ChainKind::Ledger, Some(organisation));
                new.insert(chain.await?)
            }
        };
        let month = months
            .entry(one.billing_month)
            .or_insert_with(|| one.billing_month.to_string());
        one.link = chain.append(&LedgerRow {
            record: one.record,
            billing_month: month,
        })?;
    }
    for chain in chains.values() {
        chain.store(change).await?;
    }
    Ok(())
}

/// Adds `records` to the ledger and its totals. Returns whether all of them were new; if not, the change must not be
/// committed.
async fn add_to_ledger(
    change: &mut StoreTransaction,
    records: &[&UsageRecord],
) -> Result<bool, StoreError> {
    let ends = records
        .iter()
        .map(|record| Month::containing(record.ended_at));
    let Some(first) = ends.min() else {
        return Ok(true);
    };
    let closed = include_str!("../sql/usage_closed_months.sql");
    let mut months = HashSet::new();
    for row in change.rows(closed, values![first.to_string()]).await? {
        months.insert((row.id("organization_id")?, row.month("billing_month")?));
    }
    let mut billed: Vec<_> = records
        .iter()
        .map(|record| {
            let mut billing_month = Month::containing(record.ended_at);
            while months.contains(&(record.organisation_id.0, billing_month)) {
                billing_month = billing_month.next();
            }
            BilledRecord {
                record,
                billing_month,
                link: Link::default(),
            }
        })
        .collect();
    extend_chains(change, &mut billed).await?;
    if add(change, &billed).await? < billed.len() as u64 {
        return Ok(false);
    }
    let mut totals: BTreeMap<_, UsageTotals> = BTreeMap::new();
    for one in billed.iter().filter(|one| one.record.billable) {
        let key = (one.record.organisation_id.0, one.billing_month);
        let total = totals.entry(key).or_default();
        *total = total.plus(&UsageTotals::from_record(one.record));
    }
    for ((organisation, month), total) in totals {
        let values = values![
            organisation,
            month.to_string(),
            total.requests,
            total.rows,
            total.bytes_sent,
            total.bytes_scanned
        ];
        change
            .execute(include_str!("../sql/usage_total_add.sql"), values)
            .await?;
    }
    Ok(true)
}

impl OrganisationStore {
    /// Adds those of `records` that are not in the ledger yet, all or none. Returns their number.
    pub async fn add_usage(&self, records: &[UsageRecord]) -> Result<usize, StoreError> {
        // Usually none of them exists, and looking for them costs half as much as adding them.
        let all: Vec<_> = records.iter().collect();
        if self.add_if_missing(&all).await? {
            return Ok(all.len());
        }
        let mut change = self.lock_ledger().await?;
        let missing = missing(&mut change, records).await?;
        if !add_to_ledger(&mut change, &missing).await? {
            // The lock on the ledger keeps others from adding records in between.
            return Err(StoreError::damaged("request_id", &"a duplicate"));
        }
        change.commit().await?;
        Ok(missing.len())
    }

    /// Adds `records` if none of them is in the ledger yet. Returns whether they were added.
    async fn add_if_missing(&self, records: &[&UsageRecord]) -> Result<bool, StoreError> {
        let mut change = self.lock_ledger().await?;
        let all_new = add_to_ledger(&mut change, records).await?;
        if all_new {
            change.commit().await?;
        }
        Ok(all_new)
    }

    /// Locks the ledger: waits until no other transaction adds to it or closes a month, and excludes others until the
    /// end.
    async fn lock_ledger(&self) -> Result<StoreTransaction, StoreError> {
        let mut change = self.database.begin().await?;
        change
            .execute(include_str!("../sql/usage_take.sql"), values![])
            .await?;
        Ok(change)
    }

    /// Returns the usage of the organisations in a month, as far as it is in the ledger.
    pub async fn usage_totals(
        &self,
        month: Month,
    ) -> Result<Vec<(OrganisationId, UsageTotals)>, StoreError> {
        let rows = include_str!("../sql/usage_totals.sql");
        let rows = (&self.database)
            .rows(rows, values![month.to_string()])
            .await?;
        let rows = rows.iter().map(|row| {
            let organisation = OrganisationId(row.id("organization_id")?);
            Ok((organisation, UsageTotals::from_row(row)?))
        });
        rows.collect()
    }

    /// Records how many calls by unknown callers the server process `server` counted, by minute and address. Replaces
    /// the counts that it recorded earlier.
    pub async fn set_unknown_callers(
        &self,
        server: Uuid,
        counts: &[((DateTime<Utc>, String), i64)],
    ) -> Result<(), StoreError> {
        let mut change = self.database.begin().await?;
        for ((minute, address), calls) in counts {
            let values = values![*minute, address, server, *calls];
            change
                .execute(include_str!("../sql/unknown_callers_set.sql"), values)
                .await?;
        }
        change.commit().await
    }

    /// Records the load of limited organisations on the server process `server`. Replaces the load that it recorded
    /// earlier.
    pub async fn set_usage_demand(
        &self,
        server: Uuid,
        now: DateTime<Utc>,
        demand: &[(OrganisationId, UsageDemand)],
    ) -> Result<(), StoreError> {
        let mut change = self.database.begin().await?;
        for (organisation, demand) in demand {
            let values = values![
                server,
                *organisation,
                now,
                demand.requests_per_second,
                demand.running
            ];
            change
                .execute(include_str!("../sql/usage_demand_set.sql"), values)
                .await?;
        }
        change.commit().await
    }

    /// Returns the total load of organisations on all other server processes that reported at or after `since`. Deletes
    /// reports that are more than an hour older than that.
    pub async fn usage_demand_of_others(
        &self,
        server: Uuid,
        since: DateTime<Utc>,
    ) -> Result<Vec<(OrganisationId, UsageDemand)>, StoreError> {
        let forget = include_str!("../sql/usage_demand_forget.sql");
        (&self.database)
            .execute(forget, values![since - TimeDelta::hours(1)])
            .await?;
        let rows = include_str!("../sql/usage_demand_of_others.sql");
        let rows = (&self.database).rows(rows, values![server, since]).await?;
        let rows = rows.iter().map(|row| {
            let demand = UsageDemand {
                requests_per_second: row.get("requests_per_second")?,
                running: row.count("running")?,
            };
            Ok((OrganisationId(row.id("organization_id")?), demand))
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_statements_have_a_parameter_per_column_and_record() {
        for statement in &*INSERT_STATEMENTS {
            let wanted = statement.records * COLUMNS;
            let last = format!("${wanted})");
            assert_eq!(statement.numbered.matches('$').count(), wanted);
            assert!(statement.numbered.contains(&last), "{last}");
            assert_eq!(statement.positional.matches('?').count(), wanted);
            assert!(!statement.positional.contains('$'));
        }
        assert_eq!(BATCH_SIZES.last(), Some(&1), "any remainder can be added");
    }
}
