//! The tables and columns as the database itself describes them, so that a copy cannot omit a column.

use crate::store::backend::database::{Executor, StoreTransaction, values};
use crate::store::error::StoreError;

/// All tables. A table comes after those that it refers to.
const TABLES: [&str; 17] = [
    "organizations",
    "organization_grants",
    "organization_limits",
    "users",
    "api_keys",
    "sessions",
    "access_revision",
    "audit_trail",
    "usage_ledger",
    "api_usage_logs",
    "usage_totals",
    "usage_statements",
    "record_chains",
    "unknown_callers",
    "usage_demand",
    "job_schedules",
    "job_runs",
];
/// Tables with a single row, which exists from the beginning.
pub(super) const SINGLE_ROW_TABLES: [&str; 2] = ["access_revision", "usage_ledger"];

/// A table of the schema.
#[derive(Debug)]
pub(super) struct Table {
    pub name: &'static str,
    /// The columns, in their order in the table.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub kind: ColumnKind,
    /// The position in the primary key, from 1; 0 for columns outside it.
    key_place: i64,
}

/// The type of a column's values. SQLite stores ids and times as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    Id,
    Time,
    Integer,
    Fraction,
    Boolean,
    Bytes,
}

impl ColumnKind {
    fn from_sql_type(column_type: &str) -> Option<Self> {
        Some(match column_type {
            "text" => Self::Text,
            "uuid" => Self::Id,
            "timestamptz" => Self::Time,
            "integer" | "int4" | "int8" => Self::Integer,
            "real" | "float8" => Self::Fraction,
            "boolean" | "bool" => Self::Boolean,
            "blob" | "bytea" => Self::Bytes,
            _ => return None,
        })
    }
}

impl Table {
    /// Returns the existing tables, in the order of [`TABLES`]. Other tables in the same database are ignored.
    pub async fn read_all(change: &mut StoreTransaction) -> Result<Vec<Self>, StoreError> {
        let sql = match change {
            StoreTransaction::Sqlite(_) => include_str!("../sql/copy_columns.sqlite.sql"),
            StoreTransaction::Postgres(_) => include_str!("../sql/copy_columns.postgres.sql"),
        };
        let mut tables: Vec<Self> = TABLES
            .map(|name| Self {
                name,
                columns: Vec::new(),
            })
            .into();
        for row in change.rows(sql, values![]).await? {
            let name: String = row.get("table_name")?;
            let Some(table) = tables.iter_mut().find(|table| table.name == name) else {
                continue;
            };
            let column_type: String = row.get("column_type")?;
            table.columns.push(Column {
                name: row.get("column_name")?,
                kind: ColumnKind::from_sql_type(&column_type)
                    .ok_or_else(|| StoreError::damaged(&name, &column_type))?,
                key_place: row.get("key_place")?,
            });
        }
        // An older schema lacks some of the tables.
        tables.retain(|table| !table.columns.is_empty());
        Ok(tables)
    }

    /// Returns the statement that selects all rows, in the order of their keys, byte by byte.
    pub fn select(&self, in_postgres: bool) -> String {
        let column = |column: &Column| match column.kind {
            ColumnKind::Integer if in_postgres => {
                format!("CAST({0} AS bigint) AS {0}", quoted(&column.name))
            }
            _ => quoted(&column.name),
        };
        let columns: Vec<_> = self.columns.iter().map(column).collect();
        let mut key: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| column.key_place > 0)
            .collect();
        key.sort_by_key(|column| column.key_place);
        let ordered = |column: &&Column| match column.kind {
            ColumnKind::Text if in_postgres => format!("t.{} COLLATE \"C\"", quoted(&column.name)),
            _ => format!("t.{}", quoted(&column.name)),
        };
        let key: Vec<_> = key.iter().map(ordered).collect();
        format!(
            "SELECT {} FROM {} t ORDER BY {}",
            columns.join(", "),
            quoted(self.name),
            key.join(", ")
        )
    }

    /// Returns the statement that selects a row, if there is one.
    pub fn select_any(&self) -> String {
        format!("SELECT 1 FROM {} LIMIT 1", quoted(self.name))
    }
}

/// Returns a name quoted for use in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
