//! A copy of the whole database, identical for SQLite and Postgres.
//!
//! A copy is text, in parts of some megabytes: one line with the names of the columns, and one line for each row, as
//! JSON arrays. Ids and times are written as SQLite stores them, bytes in hexadecimal, and fractions as text, which
//! keeps every bit. Rows are in the order of their keys, byte by byte. Equal content therefore gives an equal copy, and
//! a restored database can be compared with its copy.

mod restore;
mod rows;
mod table;

use super::database::{Executor, StoreTransaction, values};
use super::{OrganisationStore, StoreError};
pub use restore::DatabaseRestore;
use table::Table;

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
const SINGLE_ROW_TABLES: [&str; 2] = ["access_revision", "usage_ledger"];
/// The size at which a part is full, in bytes.
const PART_BYTES: usize = 4 << 20;

/// A part of the copy of a table.
#[derive(Debug)]
pub struct CopyPart<'a> {
    /// The table.
    pub table: &'a str,
    /// The number of the part within its table, from 1. A table without rows has one part.
    pub number: u32,
    /// The number of rows in the part.
    pub rows: u64,
    /// The text.
    pub text: &'a [u8],
}

impl OrganisationStore {
    /// Copies everything from one snapshot, and passes it to `take` part by part. Other users of the database do not
    /// wait.
    pub async fn copy<E: From<StoreError>>(
        &self,
        take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut snapshot = self.database.snapshot().await?;
        copy(&mut snapshot, take).await
    }

    /// Returns the tables that have rows, other than those that every database has.
    pub async fn filled_tables(&self) -> Result<Vec<String>, StoreError> {
        tables_with_rows(&mut self.database.snapshot().await?).await
    }

    /// Begins to restore into a database without rows, and excludes other changes meanwhile. Fails if there are rows.
    pub async fn begin_restore(&self) -> Result<DatabaseRestore, StoreError> {
        let mut change = self.database.begin().await?;
        for take in [
            include_str!("../sql/revise.sql"),
            include_str!("../sql/usage_take.sql"),
        ] {
            change.execute(take, values![]).await?;
        }
        let filled = tables_with_rows(&mut change).await?;
        if let Some(table) = filled.into_iter().next() {
            return Err(StoreError::InvalidCopy {
                table,
                problem: "it already has rows".to_owned(),
            });
        }
        DatabaseRestore::begin(change).await
    }
}

async fn copy<E: From<StoreError>>(
    snapshot: &mut StoreTransaction,
    mut take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for table in Table::read_all(snapshot).await? {
        let head = rows::header_line(&table.columns)?;
        let mut text = head.clone();
        let (mut number, mut count) = (1, 0);
        snapshot
            .for_each_row(
                table.select(matches!(snapshot, StoreTransaction::Postgres(_))),
                values![],
                |row| {
                    if text.len() >= PART_BYTES {
                        take(CopyPart {
                            table: table.name,
                            number,
                            rows: count,
                            text: &text,
                        })?;
                        text.truncate(head.len());
                        (number, count) = (number + 1, 0);
                    }
                    count += 1;
                    rows::write(row, &table.columns, &mut text).map_err(E::from)
                },
            )
            .await?;
        take(CopyPart {
            table: table.name,
            number,
            rows: count,
            text: &text,
        })?;
    }
    Ok(())
}

async fn tables_with_rows(change: &mut StoreTransaction) -> Result<Vec<String>, StoreError> {
    let mut filled = Vec::new();
    for table in Table::read_all(change).await? {
        let mut has_rows = false;
        if !SINGLE_ROW_TABLES.contains(&table.name) {
            let any = table.select_any();
            change
                .for_each_row(any, values![], |_| {
                    has_rows = true;
                    Ok::<_, StoreError>(())
                })
                .await?;
        }
        filled.extend(has_rows.then(|| table.name.to_owned()));
    }
    Ok(filled)
}
