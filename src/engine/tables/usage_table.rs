//! The usage ledger in SQL: the table `account.usage`, a row for each request. Admins see their whole organisation, others
//! only their own requests.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;
use tokio::runtime::Handle;

use super::account::Account;
use super::account_columns::{counts, external_error, flags, optional_text, text, times};
use super::engine_table::{Contents, TableProperties, UNKNOWN_ROWS};
use crate::model::Month;
use crate::store::{LedgerEntry, LedgerPosition, OrganisationStore, RecordFilter};

/// The number of rows that are read from the store at once.
const PAGE_ROWS: u32 = 1_024;

/// The table `account.usage`.
pub(in crate::engine) struct UsageTable {
    account: Account,
    schema: SchemaRef,
}

impl UsageTable {
    /// Its name in the schema `account`.
    pub const NAME: &str = "usage";

    /// Creates the table of the requests that the account's user sees.
    pub fn new(account: Account) -> Self {
        let field = |name, kind| Field::new(name, kind, false);
        let text = |name| field(name, DataType::Utf8);
        let count = |name| field(name, DataType::Int64);
        let flag = |name| field(name, DataType::Boolean);
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![
            text("request_id"),
            text("billing_month"),
            field("started_at", utc.clone()),
            field("ended_at", utc),
            text("user"),
            text("api_key_id").with_nullable(true),
            text("session_id").with_nullable(true),
            text("endpoint"),
            text("sql_fingerprint").with_nullable(true),
            text("sql_text").with_nullable(true),
            count("first_byte_microseconds").with_nullable(true),
            count("duration_microseconds"),
            count("rows"),
            count("bytes_sent"),
            count("bytes_scanned"),
            text("status"),
            flag("cancelled"),
            text("client_address"),
            text("client_agent"),
            flag("billable"),
        ]);
        Self {
            account,
            schema: Arc::new(schema),
        }
    }

    /// Returns the filter for all requests that the account's user sees.
    fn filter(&self) -> RecordFilter {
        RecordFilter {
            organisation: self.account.organisation,
            user: (!self.account.is_admin).then_some(self.account.user),
            months: Month::FIRST..=Month::LAST,
            ended: Month::FIRST.start()..=Month::LAST.end(),
            with_sql: true,
        }
    }

    /// Converts ledger entries to rows.
    fn rows(schema: &SchemaRef, entries: &[LedgerEntry]) -> Result<RecordBatch> {
        let entries = || entries.iter();
        let records = || entries().map(|entry| &entry.record);
        let columns = vec![
            text(records().map(|record| record.request_id.to_string())),
            text(entries().map(|entry| entry.billing_month.to_string())),
            times(records().map(|record| Some(record.started_at))),
            times(records().map(|record| Some(record.ended_at))),
            text(entries().map(|entry| entry.user.clone())),
            optional_text(records().map(|record| record.api_key_id.as_ref())),
            optional_text(records().map(|record| record.session_id.map(|id| id.to_string()))),
            text(records().map(|record| record.endpoint.as_str())),
            optional_text(records().map(|record| record.sql_fingerprint.as_ref())),
            optional_text(records().map(|record| record.sql_text.as_ref())),
            counts(records().map(|record| record.first_byte_microseconds)),
            counts(records().map(|record| Some(record.duration_microseconds))),
            counts(records().map(|record| Some(record.rows))),
            counts(records().map(|record| Some(record.bytes_sent))),
            counts(records().map(|record| Some(record.bytes_scanned))),
            text(records().map(|record| record.status.as_str())),
            flags(records().map(|record| record.cancelled)),
            text(records().map(|record| record.client_address.as_str())),
            text(records().map(|record| record.client_agent.as_str())),
            flags(records().map(|record| record.billable)),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

impl fmt::Debug for UsageTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsageTable")
    }
}

impl TableProperties for UsageTable {
    fn estimated_rows(&self, _: &[Expr], _: Option<usize>) -> f64 {
        // The ledger may be long, and is read page by page.
        UNKNOWN_ROWS
    }

    fn contents(&self) -> Contents {
        Contents::OfUser
    }
}

#[async_trait]
impl TableProvider for UsageTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // The store may return more rows than the conditions select, so the plan evaluates them again.
        let pushed = |filter: &&Expr| match narrow(&mut self.filter(), filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut filter = self.filter();
        for expression in filters {
            narrow(&mut filter, expression);
        }
        let sql_text = self.schema.index_of("sql_text")?;
        filter.with_sql = projection.is_none_or(|columns| columns.contains(&sql_text));
        let reader = LedgerReader {
            store: self.account.store.clone(),
            filter,
            page_rows: limit
                .and_then(|limit| u32::try_from(limit).ok())
                .map_or(PAGE_ROWS, |limit| limit.clamp(1, PAGE_ROWS)),
            schema: self.schema(),
            runtime: Handle::current(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(
            self.schema(),
            vec![Arc::new(reader)],
            projection,
            [],
            false,
            limit,
        )?))
    }
}

/// Restricts `filter` by the expression, as far as it is understood. Returns whether it restricts anything.
fn narrow(filter: &mut RecordFilter, expression: &Expr) -> bool {
    match expression {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => narrow(filter, left) | narrow(filter, right),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(value, _)) => {
                narrow_by_comparison(filter, &column.name, *op, value)
            }
            (Expr::Literal(value, _), Expr::Column(column)) => op
                .swap()
                .is_some_and(|op| narrow_by_comparison(filter, &column.name, op, value)),
            _ => false,
        },
        Expr::Between(between) if !between.negated => {
            match (&*between.expr, &*between.low, &*between.high) {
                (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                    narrow_by_comparison(filter, &column.name, Operator::GtEq, low)
                        | narrow_by_comparison(filter, &column.name, Operator::LtEq, high)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

fn narrow_by_comparison(
    filter: &mut RecordFilter,
    column: &str,
    op: Operator,
    value: &ScalarValue,
) -> bool {
    let (from, to) = match op {
        Operator::Eq => (true, true),
        Operator::Gt | Operator::GtEq => (true, false),
        Operator::Lt | Operator::LtEq => (false, true),
        _ => return false,
    };
    match column {
        "billing_month" => {
            let month = value.try_as_str().flatten().map(str::parse::<Month>);
            let Some(Ok(month)) = month else { return false };
            let (first, last) = (*filter.months.start(), *filter.months.end());
            filter.months = match (from, to) {
                (true, true) => first.max(month)..=last.min(month),
                (true, false) => first.max(month)..=last,
                _ => first..=last.min(month),
            };
            true
        }
        // A request that started after an instant also ended after it, and is billed in its month or later.
        "ended_at" | "started_at" => {
            let Some(at) = instant(value) else {
                return false;
            };
            let (mut earliest, mut latest) = (*filter.ended.start(), *filter.ended.end());
            if from {
                earliest = earliest.max(at);
                let first = (*filter.months.start()).max(Month::containing(at));
                filter.months = first..=*filter.months.end();
            }
            if to && column == "ended_at" {
                latest = latest.min(at);
            }
            filter.ended = earliest..=latest;
            from || column == "ended_at"
        }
        _ => false,
    }
}

fn instant(value: &ScalarValue) -> Option<DateTime<Utc>> {
    let at = match value {
        ScalarValue::TimestampSecond(Some(at), _) => DateTime::from_timestamp_secs(*at),
        ScalarValue::TimestampMillisecond(Some(at), _) => DateTime::from_timestamp_millis(*at),
        ScalarValue::TimestampMicrosecond(Some(at), _) => DateTime::from_timestamp_micros(*at),
        ScalarValue::TimestampNanosecond(Some(at), _) => Some(DateTime::from_timestamp_nanos(*at)),
        _ => None,
    };
    // The store's text representation of times does not reach further.
    at.filter(|at| (Month::FIRST.start()..=Month::LAST.end()).contains(at))
}

/// Reads the ledger page by page, as rows are requested.
struct LedgerReader {
    store: OrganisationStore,
    filter: RecordFilter,
    page_rows: u32,
    schema: SchemaRef,
    /// The runtime that owns the store's connections. The runtime of the threads that run queries may end before they
    /// do.
    runtime: Handle,
}

impl fmt::Debug for LedgerReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerReader")
    }
}

/// The position of a reader.
enum PagePosition {
    Start,
    After(LedgerPosition),
    End,
}

impl PartitionStream for LedgerReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (store, filter, page) = (self.store.clone(), self.filter.clone(), self.page_rows);
        let (schema, runtime) = (self.schema(), self.runtime.clone());
        let batch_schema = Arc::clone(schema);
        let pages = stream::try_unfold(PagePosition::Start, move |at| {
            let (store, filter) = (store.clone(), filter.clone());
            let (runtime, schema) = (runtime.clone(), Arc::clone(&batch_schema));
            async move {
                let after = match at {
                    PagePosition::Start => None,
                    PagePosition::After(position) => Some(position),
                    PagePosition::End => return Ok(None),
                };
                let (organisation, user) = (filter.organisation, filter.user);
                let read = async move { store.usage_page(&filter, after, page).await };
                let mut entries = runtime
                    .spawn(read)
                    .await
                    .map_err(external_error)?
                    .map_err(external_error)?;
                let next = match entries.last() {
                    Some(last) if entries.len() >= page as usize => {
                        PagePosition::After(last.position())
                    }
                    _ => PagePosition::End,
                };
                // The store query is restricted to these entries already; the filter guards against a mistake there.
                entries.retain(|entry| {
                    entry.record.organisation_id == organisation
                        && user.is_none_or(|user| entry.record.user_id == user)
                });
                Ok(Some((UsageTable::rows(&schema, &entries)?, next)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), pages))
    }
}
