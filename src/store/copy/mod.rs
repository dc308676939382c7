//! A copy of all that is in the database, which says the same whether that is SQLite or Postgres.
//!
//! It is text, in parts of some megabytes: a line that names the columns, and one for each row, as JSON arrays. Ids and times
//! are written as SQLite has them, bytes in hexadecimal, and fractions as text, which keeps every bit. Rows are in the order
//! of their keys, byte by byte. So equal content is an equal copy, and whoever has made a database of one can compare.

mod fill;
mod rows;
mod table;

use super::database::{Change, Executor, values};
use super::{OrganisationStore, StoreError};
pub use fill::Restoring;
use table::Table;

/// All tables, those that others refer to first.
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
/// Tables of one row, which is there from the beginning.
const OF_ONE_ROW: [&str; 2] = ["access_revision", "usage_ledger"];
/// A part is full at so many bytes.
const PART: usize = 4 << 20;

/// A part of the copy of a table.
#[derive(Debug)]
pub struct CopyPart<'a> {
    /// The table.
    pub table: &'a str,
    /// The how manieth part of it, from 1. A table without rows has one.
    pub number: u32,
    /// Rows in it.
    pub rows: u64,
    /// The text.
    pub text: &'a [u8],
}

impl OrganisationStore {
    /// Copies everything, as it is at one instant, and hands over part by part. Nobody who works with the database has to wait.
    pub async fn copy<E: From<StoreError>>(
        &self,
        take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut snapshot = self.database.snapshot().await?;
        copy(&mut snapshot, take).await
    }

    /// The tables that have rows, other than those that every database has.
    pub async fn filled_tables(&self) -> Result<Vec<String>, StoreError> {
        filled(&mut self.database.snapshot().await?).await
    }

    /// Begins to fill a database that has no rows, if it has none; nobody else changes it meanwhile.
    pub async fn restoring(&self) -> Result<Restoring, StoreError> {
        let mut change = self.database.begin().await?;
        for take in [
            include_str!("../sql/revise.sql"),
            include_str!("../sql/usage_take.sql"),
        ] {
            change.execute(take, values![]).await?;
        }
        let filled = filled(&mut change).await?;
        if let Some(table) = filled.into_iter().next() {
            return Err(StoreError::Copy {
                table,
                problem: "there are rows already".to_owned(),
            });
        }
        Restoring::begin(change).await
    }
}

async fn copy<E: From<StoreError>>(
    snapshot: &mut Change,
    mut take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for table in Table::all(snapshot).await? {
        let head = rows::head(&table.columns)?;
        let mut text = head.clone();
        let (mut number, mut count) = (1, 0);
        snapshot
            .each(
                table.select(matches!(snapshot, Change::Postgres(_))),
                values![],
                |row| {
                    if text.len() >= PART {
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

async fn filled(change: &mut Change) -> Result<Vec<String>, StoreError> {
    let mut filled = Vec::new();
    for table in Table::all(change).await? {
        let mut has_rows = false;
        if !OF_ONE_ROW.contains(&table.name) {
            let any = table.any();
            change
                .each(any, values![], |_| {
                    has_rows = true;
                    Ok::<_, StoreError>(())
                })
                .await?;
        }
        filled.extend(has_rows.then(|| table.name.to_owned()));
    }
    Ok(filled)
}
