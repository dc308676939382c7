//! What an organisation may know of itself, as tables: its users and their keys, for its admins.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::model::OrganisationId;
use crate::store::{ApiKey, OrganisationStore, User};

/// Whose account a session may look at.
#[derive(Debug, Clone)]
pub struct Account {
    /// Where users and keys are.
    pub store: OrganisationStore,
    /// Whose.
    pub organisation: OrganisationId,
    /// Whether users and keys may be seen.
    pub is_admin: bool,
}

/// The schema `account`.
#[derive(Debug)]
pub(super) struct AccountSchema(pub Account);

#[async_trait]
impl SchemaProvider for AccountSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = AccountTable::ALL.iter().filter(|_| self.0.is_admin);
        tables.map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let found = AccountTable::ALL
            .into_iter()
            .find(|table| table.name() == name);
        Ok(found.filter(|_| self.0.is_admin).map(|table| {
            Arc::new(AccountTableProvider {
                table,
                account: self.0.clone(),
                schema: table.schema(),
            }) as _
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccountTable {
    Users,
    Keys,
}

impl AccountTable {
    const ALL: [Self; 2] = [Self::Users, Self::Keys];

    const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Keys => "keys",
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
        }))
    }

    async fn rows(self, account: &Account) -> Result<RecordBatch> {
        let failed = |error| DataFusionError::External(Box::new(error));
        let (store, organisation) = (&account.store, account.organisation);
        let columns = match self {
            Self::Users => {
                let users = store.users(Some(organisation)).await.map_err(failed)?;
                // The database was asked for this organisation's only; nobody else's may get out by a mistake.
                user_columns(
                    users
                        .iter()
                        .filter(|user| user.organisation_id == organisation),
                )
            }
            Self::Keys => {
                let keys = store.keys(Some(organisation), None).await.map_err(failed)?;
                key_columns(
                    keys.iter()
                        .filter(|key| key.organisation_id == organisation),
                )
            }
        };
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

fn times(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let values = values.map(|time| time.map(|time| time.timestamp_micros()));
    Arc::new(
        values
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC"),
    )
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

pub(super) struct AccountTableProvider {
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
