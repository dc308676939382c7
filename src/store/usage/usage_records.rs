//! Reads the ledger page by page, in the order of month, end and id, so that memory use does not depend on its size.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::{Month, OrganisationId, SessionId, UsageRecord, UserId};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// A selection of records. All conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFilter {
    /// The organisation that pays.
    pub organisation: OrganisationId,
    /// The user who sent the request; any user if `None`.
    pub user: Option<UserId>,
    /// The months of billing.
    pub months: RangeInclusive<Month>,
    /// The times of the end.
    pub ended: RangeInclusive<DateTime<Utc>>,
    /// Whether to return the statements, too, which may be long.
    pub with_sql: bool,
}

impl RecordFilter {
    /// Returns a filter for all records of an organisation that are billed in a month.
    pub fn month(organisation: OrganisationId, month: Month) -> Self {
        Self {
            organisation,
            user: None,
            months: month..=month,
            ended: Month::FIRST.start()..=Month::LAST.end(),
            with_sql: true,
        }
    }
}

/// A record of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The request.
    pub record: UsageRecord,
    /// The month in which the request is billed.
    pub billing_month: Month,
    /// The address of the user who sent the request.
    pub user: String,
}

/// The position at which one page ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerPosition {
    billing_month: Month,
    ended_at: DateTime<Utc>,
    request_id: Uuid,
}

impl LedgerEntry {
    /// Returns the position of the record.
    pub fn position(&self) -> LedgerPosition {
        LedgerPosition {
            billing_month: self.billing_month,
            ended_at: self.record.ended_at,
            request_id: self.record.request_id,
        }
    }

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            record: UsageRecord {
                request_id: row.id("request_id")?,
                organisation_id: OrganisationId(row.id("organization_id")?),
                user_id: UserId(row.id("user_id")?),
                api_key_id: row.optional_text("api_key_id")?,
                session_id: row.optional_id("session_id")?.map(SessionId),
                server_id: row.id("server_id")?,
                endpoint: row.text("endpoint")?,
                sql_fingerprint: row.optional_text("sql_fingerprint")?,
                sql_text: row.get("sql_text")?,
                started_at: row.time("started_at")?,
                ended_at: row.time("ended_at")?,
                first_byte_microseconds: row.optional_count("first_byte_microseconds")?,
                duration_microseconds: row.count("duration_microseconds")?,
                rows: row.count("rows")?,
                bytes_sent: row.count("bytes_sent")?,
                bytes_scanned: row.count("bytes_scanned")?,
                status: row.text("status")?,
                cancelled: row.get("cancelled")?,
                client_address: row.text("client_address")?,
                client_agent: row.text("client_agent")?,
                billable: row.get("billable")?,
            },
            billing_month: row.month("billing_month")?,
            user: row.get("email")?,
        })
    }
}

/// Returns at most `max_records` records after `after`, or from the beginning.
pub(in crate::store) async fn page(
    database: &mut impl Executor,
    filter: &RecordFilter,
    after: Option<LedgerPosition>,
    max_records: u32,
) -> Result<Vec<LedgerEntry>, StoreError> {
    // No record precedes the first instant with the smallest id.
    let after = after.unwrap_or(LedgerPosition {
        billing_month: *filter.months.start(),
        ended_at: Month::FIRST.start(),
        request_id: Uuid::nil(),
    });
    let values = values![
        filter.organisation,
        after.billing_month.to_string(),
        after.ended_at,
        after.request_id,
        filter.months.end().to_string(),
        *filter.ended.start(),
        *filter.ended.end(),
        filter.user,
        filter.with_sql,
        i64::from(max_records)
    ];
    let rows = database
        .rows(include_str!("../sql/usage_page.sql"), values)
        .await?;
    rows.iter().map(LedgerEntry::from_row).collect()
}

impl OrganisationStore {
    /// Returns at most `max_records` records after `after`, or from the beginning, in the order of [`LedgerPosition`].
    pub async fn usage_page(
        &self,
        filter: &RecordFilter,
        after: Option<LedgerPosition>,
        max_records: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        page(&mut &self.database, filter, after, max_records).await
    }
}
