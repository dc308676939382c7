//! The table function `usage_report('2026-11')`: the totals of a month by user and endpoint. Admins see their whole
//! organisation, others only their own requests.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result;

use super::computed_table::{ComputedRows, ComputedTable};
use super::function::{Implementation, TableFunction};
use super::signature::{Argument, ArgumentType, FunctionSignature, quoted};
use crate::engine::tables::account::Account;
use crate::engine::tables::account_columns::{counts, external_error, text};
use crate::engine::tables::engine_table::Contents;
use crate::model::Month;
use crate::store::{ReportBy, ReportFilter, ReportLine};

pub(super) static USAGE_REPORT: TableFunction = TableFunction {
    signature: FunctionSignature {
        name: "usage_report",
        parameters: &[("month", ArgumentType::Text)],
        required: 1,
        example: "usage_report('2026-11')",
    },
    documentation: "the totals of a month by user and endpoint",
    implementation: Implementation::Account(|account, arguments| {
        let signature = &USAGE_REPORT.signature;
        let month = match signature.text(arguments, 0)? {
            Argument::Given(text) => {
                let month = text.parse::<Month>().map_err(|_| {
                    let month = quoted(&text);
                    signature.error(format_args!("invalid month {month}; write it as 2026-11"))
                })?;
                Some(month)
            }
            _ => None,
        };
        Ok(Arc::new(ComputedTable(UsageReport {
            account,
            month,
            schema: report_schema(),
        })))
    }),
};

/// The totals of one month.
struct UsageReport {
    account: Account,
    /// `None` if the month is not given yet.
    month: Option<Month>,
    schema: SchemaRef,
}

fn report_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let count = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        text("billing_month"),
        text("user"),
        text("endpoint"),
        count("requests"),
        count("billable_requests"),
        count("late_requests"),
        count("rows"),
        count("bytes_sent"),
        count("bytes_scanned"),
        count("errors"),
        count("cancelled"),
        count("aborted"),
    ]))
}

impl UsageReport {
    fn rows(&self, lines: &[ReportLine]) -> Result<RecordBatch> {
        let lines = || lines.iter();
        let sums = || lines().map(|line| line.sums);
        let columns = vec![
            text(lines().map(|line| line.month.to_string())),
            text(lines().map(|line| line.user.clone().unwrap_or_default())),
            text(lines().map(|line| line.endpoint.clone().unwrap_or_default())),
            counts(sums().map(|sums| Some(sums.requests))),
            counts(sums().map(|sums| Some(sums.billable_requests))),
            counts(sums().map(|sums| Some(sums.late_requests))),
            counts(sums().map(|sums| Some(sums.rows))),
            counts(sums().map(|sums| Some(sums.bytes_sent))),
            counts(sums().map(|sums| Some(sums.bytes_scanned))),
            counts(sums().map(|sums| Some(sums.errors))),
            counts(sums().map(|sums| Some(sums.cancelled))),
            counts(sums().map(|sums| Some(sums.aborted))),
        ];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

impl fmt::Debug for UsageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UsageReport").field(&self.month).finish()
    }
}

#[async_trait]
impl ComputedRows for UsageReport {
    const CONTENTS: Contents = Contents::OfUser;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn compute(&self) -> Result<Vec<RecordBatch>> {
        let account = &self.account;
        let month = self
            .month
            .ok_or_else(|| USAGE_REPORT.signature.unbound_error())?;
        let filter = ReportFilter {
            organisation: Some(account.organisation),
            user: (!account.is_admin).then_some(account.user),
            months: month..=month,
            by: ReportBy {
                user: true,
                endpoint: true,
                day: false,
            },
        };
        let mut lines = account
            .store
            .usage_report(&filter)
            .await
            .map_err(external_error)?;
        // The store query is restricted to these lines already; the filter guards against a mistake there.
        lines.retain(|line| {
            line.organisation_id == account.organisation
                && (account.is_admin || line.user_id == Some(account.user))
        });
        Ok(vec![self.rows(&lines)?])
    }
}
