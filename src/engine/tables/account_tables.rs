//! The tables of the schema `account`: users and API keys of an organisation, for its admins, and its usage and limits.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::account::Account;
use super::account_columns::{external_error, flags, text, times};
use super::engine_table::{Contents, EngineTable, SMALL_TABLE_ROWS, TableProperties};
use super::usage_table::UsageTable;
use crate::clock;
use crate::model::{Month, UsageLimits};
use crate::store::{ApiKey, UsageTotals, User};

/// The schema `account` as one session sees it.
#[derive(Debug)]
pub(in crate::engine) struct AccountSchema(pub Account);

#[async_trait]
impl SchemaProvider for AccountSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = AccountTable::ALL.into_iter();
        let tables = tables.filter(|table| table.is_visible_to(&self.0));
        let names = tables.map(AccountTable::name).chain([UsageTable::NAME]);
        names.map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = self.find(name).map(EngineTable::of_user);
        Ok(table.map(|table| Arc::new(table) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

impl AccountSchema {
    fn find(&self, name: &str) -> Option<Arc<dyn TableProperties>> {
        if name == UsageTable::NAME {
            return Some(Arc::new(UsageTable::new(self.0.clone())));
        }
        let table = AccountTable::ALL
            .into_iter()
            .find(|table| table.name() == name && table.is_visible_to(&self.0))?;
        Some(Arc::new(AccountTableProvider {
            table,
            account: self.0.clone(),
            schema: table.schema(),
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccountTable {
    Users,
    Keys,
    Limits,
}

impl AccountTable {
    const ALL: [Self; 3] = [Self::Users, Self::Keys, Self::Limits];

    /// Whether the table is visible in this account: users and keys are for admins only.
    const fn is_visible_to(self, account: &Account) -> bool {
        account.is_admin || matches!(self, Self::Limits)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Keys => "keys",
            Self::Limits => "limits",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let flag = |name| Field::new(name, DataType::Boolean, false);
        let kind = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let time = |name, nullable| Field::new(name, kind.clone(), nullable);
        Arc::new(Schema::new(match self {
            Self::Users => vec![
                text("id"),
                text("email"),
                text("name"),
                text("role"),
                flag("may_ingest"),
                flag("active"),
                time("created_at", false),
                time("last_sign_in_at", true),
            ],
            Self::Keys => vec![
                text("id"),
                text("user"),
                text("name"),
                flag("may_ingest"),
                time("created_at", false),
                time("expires_at", true),
                time("last_used_at", true),
                time("revoked_at", true),
            ],
            Self::Limits => vec![
                // The name of the limit in `plantlake org limit`.
                text("limit_name"),
                // Null if the limit is not set.
                Field::new("at_most", DataType::Float64, true),
                // The usage of the current month; null for limits that do not count by month.
                Field::new("used", DataType::Int64, true),
                time("resets_at", true),
            ],
        }))
    }

    async fn rows(self, account: &Account) -> Result<RecordBatch> {
        let (store, organisation) = (&account.store, account.organisation);
        let columns = match self {
            Self::Users => {
                let users = store
                    .users(Some(organisation))
                    .await
                    .map_err(external_error)?;
                // The store query is restricted to this organisation already; the filter guards against a mistake
                // there.
                user_columns(
                    users
                        .iter()
                        .filter(|user| user.organisation_id == organisation),
                )
            }
            Self::Keys => {
                let keys = store
                    .keys(Some(organisation), None)
                    .await
                    .map_err(external_error)?;
                key_columns(
                    keys.iter()
                        .filter(|key| key.organisation_id == organisation),
                )
            }
            Self::Limits => {
                let month = Month::containing(clock::now());
                let limits = store
                    .organisation_limits(organisation)
                    .await
                    .map_err(external_error)?;
                let totals = store.usage_totals(month).await.map_err(external_error)?;
                let used = totals
                    .into_iter()
                    .find_map(|(id, totals)| (id == organisation).then_some(totals));
                limit_columns(&limits, &used.unwrap_or_default(), month)
            }
        };
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

fn user_columns<'a>(users: impl Iterator<Item = &'a User> + Clone) -> Vec<ArrayRef> {
    let users = || users.clone();
    vec![
        text(users().map(|user| user.id.to_string())),
        text(users().map(|user| user.email.clone())),
        text(users().map(|user| user.name.clone())),
        text(users().map(|user| user.role.name().to_owned())),
        flags(users().map(|user| user.may_ingest)),
        flags(users().map(|user| user.active)),
        times(users().map(|user| Some(user.created_at))),
        times(users().map(|user| user.last_sign_in_at)),
    ]
}

fn key_columns<'a>(keys: impl Iterator<Item = &'a ApiKey> + Clone) -> Vec<ArrayRef> {
    let keys = || keys.clone();
    vec![
        text(keys().map(|key| key.id.clone())),
        text(keys().map(|key| key.user.clone())),
        text(keys().map(|key| key.name.clone())),
        flags(keys().map(|key| key.may_ingest)),
        times(keys().map(|key| Some(key.created_at))),
        times(keys().map(|key| key.expires_at)),
        times(keys().map(|key| key.last_used_at)),
        times(keys().map(|key| key.revoked_at)),
    ]
}

fn limit_columns(limits: &UsageLimits, used: &UsageTotals, month: Month) -> Vec<ArrayRef> {
    let number = |count: Option<u64>| count.map(|count| count as f64);
    let rows = [
        ("requests_per_second", limits.requests_per_second, None),
        (
            "concurrent_queries",
            number(limits.concurrent_queries),
            None,
        ),
        (
            "monthly_requests",
            number(limits.monthly_requests),
            Some(used.requests),
        ),
        (
            "monthly_bytes_sent",
            number(limits.monthly_bytes_sent),
            Some(used.bytes_sent),
        ),
        (
            "monthly_bytes_scanned",
            number(limits.monthly_bytes_scanned),
            Some(used.bytes_scanned),
        ),
    ];
    let used = rows.map(|(_, _, used)| used.map(|used| i64::try_from(used).unwrap_or(i64::MAX)));
    vec![
        text(rows.iter().map(|(name, ..)| (*name).to_owned())),
        Arc::new(
            rows.iter()
                .map(|(_, at_most, _)| *at_most)
                .collect::<Float64Array>(),
        ),
        Arc::new(used.into_iter().collect::<Int64Array>()),
        times(
            used.into_iter()
                .map(|used| used.map(|_| month.next().start())),
        ),
    ]
}

struct AccountTableProvider {
    table: AccountTable,
    account: Account,
    schema: SchemaRef,
}

impl fmt::Debug for AccountTableProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccountTableProvider")
            .field(&self.table)
            .finish()
    }
}

impl TableProperties for AccountTableProvider {
    fn estimated_rows(&self, _: &[Expr], _: Option<usize>) -> f64 {
        SMALL_TABLE_ROWS
    }

    fn contents(&self) -> Contents {
        Contents::OfUser
    }
}

#[async_trait]
impl TableProvider for AccountTableProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.table.rows(&self.account).await?;
        Ok(MemorySourceConfig::try_new_exec(
            &[vec![rows]],
            self.schema(),
            projection.cloned(),
        )?)
    }
}
