//! Sums of the ledger: by organisation and month, and within these by user, endpoint or day.

use std::ops::RangeInclusive;

use serde::Serialize;
use uuid::Uuid;

use super::database::{Executor, Row, values};
use super::{OrganisationStore, StoreError};
use crate::model::{Month, OrganisationId, UserId};

/// What is to be summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFilter {
    /// Of this organisation only.
    pub organisation: Option<OrganisationId>,
    /// Of this user only.
    pub user: Option<UserId>,
    /// Billed in these months.
    pub months: RangeInclusive<Month>,
    /// What a line is of, beside an organisation and a month.
    pub by: ReportBy,
}

/// What a line of a report is of, beside an organisation and a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportBy {
    /// One user.
    pub user: bool,
    /// One endpoint.
    pub endpoint: bool,
    /// One day, on which requests ended, in UTC.
    pub day: bool,
}

/// A line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportLine {
    /// Who pays.
    pub organisation_id: OrganisationId,
    /// Its name.
    pub organisation: String,
    /// When it is billed.
    pub month: Month,
    /// Who asked: the id, where the report is by user.
    pub user_id: Option<UserId>,
    /// The address.
    pub user: Option<String>,
    /// What was called, where the report is by endpoint.
    pub endpoint: Option<String>,
    /// The day on which requests ended, where the report is by day: `2026-11-24`.
    pub day: Option<String>,
    /// What it adds up to.
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// What requests add up to. Rows and bytes are those of billable requests, as they are billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsageSums {
    /// How many, billable or not.
    pub requests: u64,
    /// How many are billable.
    pub billable_requests: u64,
    /// Billable ones that had ended in an earlier month, which was closed when they came.
    pub late_requests: u64,
    /// Rows that were sent or taken in.
    pub rows: u64,
    /// Messages of answers, as they were encoded.
    pub bytes_sent: u64,
    /// Of the lake's files.
    pub bytes_scanned: u64,
    /// Requests, billable or not, that were answered by an error.
    pub errors: u64,
    /// Those whose client went away or cancelled.
    pub cancelled: u64,
    /// Those whose server died.
    pub aborted: u64,
}

impl UsageSums {
    /// Adds another's.
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

/// What is billed in a month, though it ended in an earlier one: that was closed when the records came. It is part of
/// the month's sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adjustment {
    /// Who pays.
    pub organisation_id: OrganisationId,
    /// Its name.
    pub organisation: String,
    /// When it is billed.
    pub month: Month,
    /// When it ended.
    pub from_month: Month,
    /// Billable requests.
    pub requests: u64,
    /// Rows that were sent or taken in.
    pub rows: u64,
    /// Messages of answers, as they were encoded.
    pub bytes_sent: u64,
    /// Of the lake's files.
    pub bytes_scanned: u64,
}

impl ReportLine {
    fn read(row: &Row) -> Result<Self, StoreError> {
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

    /// Databases have orders of their own for texts; this one is the same for all.
    fn order(&self) -> impl Ord + use<> {
        let user = self.user_id.map(|id| id.0).unwrap_or(Uuid::nil());
        (
            (self.organisation.clone(), self.organisation_id, self.month),
            (self.user.clone(), user),
            (self.endpoint.clone(), self.day.clone()),
        )
    }
}

impl Adjustment {
    fn read(row: &Row) -> Result<Self, StoreError> {
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
    /// Sums of the ledger; no line where there is no record.
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
            .rows(include_str!("sql/usage_report.sql"), values)
            .await?;
        let lines = rows.iter().map(ReportLine::read);
        let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
        lines.sort_by_cached_key(ReportLine::order);
        Ok(lines)
    }

    /// What came too late for the months that it ended in; `filter.by` makes no difference.
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
            .rows(include_str!("sql/usage_late.sql"), values)
            .await?;
        let found = rows.iter().map(Adjustment::read);
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        found.sort_by_cached_key(|late| {
            let organisation = (late.organisation.clone(), late.organisation_id);
            (organisation, late.month, late.from_month)
        });
        Ok(found)
    }
}
