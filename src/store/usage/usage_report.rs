//! Totals of the ledger by organisation and month, and optionally by user, endpoint or day.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::model::{Month, OrganisationId, UserId};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// A selection of records to be totalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFilter {
    /// Only records of this organisation, if one is given.
    pub organisation: Option<OrganisationId>,
    /// Only records of this user, if one is given.
    pub user: Option<UserId>,
    /// The months of billing.
    pub months: RangeInclusive<Month>,
    /// The grouping, in addition to organisation and month.
    pub by: ReportBy,
}

/// The grouping of a report, in addition to organisation and month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportBy {
    /// Whether to group by user.
    pub user: bool,
    /// Whether to group by endpoint.
    pub endpoint: bool,
    /// Whether to group by the UTC day on which requests ended.
    pub day: bool,
}

/// A line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportLine {
    /// The organisation that pays.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The month of billing.
    pub month: Month,
    /// The id of the user who sent the requests, if the report is by user.
    pub user_id: Option<UserId>,
    /// The user's address, if the report is by user.
    pub user: Option<String>,
    /// The endpoint called, if the report is by endpoint.
    pub endpoint: Option<String>,
    /// The UTC day on which requests ended, if the report is by day: `2026-11-24`.
    pub day: Option<String>,
    /// The totals of the line.
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// Totals of requests. Rows and bytes are those of billable requests only, as they are billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsageSums {
    /// The number of requests, billable or not.
    pub requests: u64,
    /// The number of billable requests.
    pub billable_requests: u64,
    /// Billable requests that ended in an earlier month, which was already closed when their records arrived.
    pub late_requests: u64,
    /// Rows sent or ingested.
    pub rows: u64,
    /// Bytes of response messages, as encoded.
    pub bytes_sent: u64,
    /// Bytes read from the lake's files.
    pub bytes_scanned: u64,
    /// Requests, billable or not, that ended with an error.
    pub errors: u64,
    /// Requests that the client cancelled or abandoned.
    pub cancelled: u64,
    /// Requests whose server died.
    pub aborted: u64,
}

impl UsageSums {
    /// Adds the totals of `other`.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.requests, other.requests),
            (&mut self.billable_requests, other.billable_requests),
            (&mut self.late_requests, other.late_requests),
            (&mut self.rows, other.rows),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_scanned, other.bytes_scanned),
            (&mut self.errors, other.errors),
            (&mut self.cancelled, other.cancelled),
            (&mut self.aborted, other.aborted),
        ] {
            *sum += more;
        }
    }
}

/// Usage that is billed in a month although it ended in an earlier one, which was already closed when the records
/// arrived. It is part of the month's totals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adjustment {
    /// The organisation that pays.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The month of billing.
    pub month: Month,
    /// The month in which the requests ended.
    pub from_month: Month,
    /// The number of billable requests.
    pub requests: u64,
    /// Rows sent or ingested.
    pub rows: u64,
    /// Bytes of response messages, as encoded.
    pub bytes_sent: u64,
    /// Bytes read from the lake's files.
    pub bytes_scanned: u64,
}

impl ReportLine {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            organisation_id: OrganisationId(row.id("organization_id")?),
            organisation: row.get("organization")?,
            month: row.month("billing_month")?,
            user_id: row.optional_id("user_id")?.map(UserId),
            user: row.get("user_email")?,
            endpoint: row.get("endpoint")?,
            day: row.get("day")?,
            sums: UsageSums {
                requests: row.count("requests")?,
                billable_requests: row.count("billable_requests")?,
                late_requests: row.count("late_requests")?,
                rows: row.count("rows")?,
                bytes_sent: row.count("bytes_sent")?,
                bytes_scanned: row.count("bytes_scanned")?,
                errors: row.count("errors")?,
                cancelled: row.count("cancelled")?,
                aborted: row.count("aborted")?,
            },
        })
    }

    /// Returns the sort key of a line. Databases differ in how they order texts; this order is the same for all.
    fn sort_key(&self) -> impl Ord + use<> {
        let user = self.user_id.map(|id| id.0).unwrap_or_default();
        (
            (self.organisation.clone(), self.organisation_id, self.month),
            (self.user.clone(), user),
            (self.endpoint.clone(), self.day.clone()),
        )
    }
}

impl Adjustment {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            organisation_id: OrganisationId(row.id("organization_id")?),
            organisation: row.get("organization")?,
            month: row.month("billing_month")?,
            from_month: row.month("from_month")?,
            requests: row.count("requests")?,
            rows: row.count("rows")?,
            bytes_sent: row.count("bytes_sent")?,
            bytes_scanned: row.count("bytes_scanned")?,
        })
    }
}

impl OrganisationStore {
    /// Returns totals of the ledger. A group without records has no line.
    pub async fn usage_report(&self, filter: &ReportFilter) -> Result<Vec<ReportLine>, StoreError> {
        let values = values![
            filter.organisation,
            filter.user,
            filter.months.start().to_string(),
            filter.months.end().to_string(),
            filter.by.user,
            filter.by.endpoint,
            filter.by.day
        ];
        let rows = (&self.database)
            .rows(include_str!("../sql/usage_report.sql"), values)
            .await?;
        let lines = rows.iter().map(ReportLine::from_row);
        let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
        lines.sort_by_cached_key(ReportLine::sort_key);
        Ok(lines)
    }

    /// Returns usage that arrived too late for the month in which it ended. `filter.by` has no effect.
    pub async fn usage_adjustments(
        &self,
        filter: &ReportFilter,
    ) -> Result<Vec<Adjustment>, StoreError> {
        let values = values![
            filter.organisation,
            filter.user,
            filter.months.start().to_string(),
            filter.months.end().to_string()
        ];
        let rows = (&self.database)
            .rows(include_str!("../sql/usage_late.sql"), values)
            .await?;
        let found = rows.iter().map(Adjustment::from_row);
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        found.sort_by_cached_key(|late| {
            let organisation = (late.organisation.clone(), late.organisation_id);
            (organisation, late.month, late.from_month)
        });
        Ok(found)
    }
}
