//! Restores a database from a copy, completely or not at all.

use serde_json::{Map, Value as Json};

use super::parts::{CopyPart, copy};
use super::rows;
use super::table::{Column, SINGLE_ROW_TABLES, Table, quoted};
use crate::store::backend::database::{Executor, StoreTransaction, Value, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The number of rows that one statement adds in Postgres.
const ROWS_PER_INSERT: usize = 500;

/// A database that is being restored. It stays as it was if this is dropped without a commit.
pub struct DatabaseRestore {
    change: StoreTransaction,
    tables: Vec<Table>,
}

impl OrganisationStore {
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

impl std::fmt::Debug for DatabaseRestore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restoring").finish_non_exhaustive()
    }
}

impl DatabaseRestore {
    async fn begin(mut change: StoreTransaction) -> Result<Self, StoreError> {
        let tables = Table::read_all(&mut change).await?;
        Ok(Self { change, tables })
    }

    /// Adds a part of the copy of a table. Parts must be added in the order in which they were copied.
    pub async fn add(&mut self, table: &str, text: &[u8]) -> Result<(), StoreError> {
        let wrong = |problem: String| StoreError::InvalidCopy {
            table: table.to_owned(),
            problem,
        };
        let known = self.tables.iter().find(|known| known.name == table);
        let known = known.ok_or_else(|| wrong("there is no such table".to_owned()))?;
        let mut lines = text.split(|&byte| byte == b'\n');
        let head: Vec<String> = serde_json::from_slice(lines.next().unwrap_or_default())
            .map_err(|error| wrong(error.to_string()))?;
        let columns = head.iter().map(|name| {
            let column = known.columns.iter().find(|column| column.name == *name);
            column.ok_or_else(|| wrong(format!("there is no column {name:?}")))
        });
        let columns: Vec<&Column> = columns.collect::<Result<_, _>>()?;
        let insert = Insert::new(table, &head);
        let mut batch = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let cells: Vec<Json> =
                serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
            if cells.len() != columns.len() {
                return Err(wrong(format!("a row has {} columns", cells.len())));
            }
            let unfit = |column: &Column| {
                wrong(format!(
                    "a value does not have the type of column {}",
                    column.name
                ))
            };
            if let StoreTransaction::Sqlite(_) = self.change {
                let values = columns.iter().zip(&cells).map(|(column, cell)| {
                    rows::parameter(cell, column.kind).ok_or_else(|| unfit(column))
                });
                let values: Vec<Value> = values.collect::<Result<_, _>>()?;
                self.change.execute_dynamic(&insert.one, &values).await?;
                continue;
            }
            let cells = columns.iter().zip(cells).map(|(column, cell)| {
                let cell =
                    rows::to_postgres_json(cell, column.kind).ok_or_else(|| unfit(column))?;
                Ok((column.name.clone(), cell))
            });
            batch.push(Json::Object(
                cells.collect::<Result<Map<_, _>, StoreError>>()?,
            ));
            if batch.len() == ROWS_PER_INSERT {
                insert.many(&mut self.change, &mut batch).await?;
            }
        }
        insert.many(&mut self.change, &mut batch).await
    }

    /// Copies the current content, for comparison.
    pub async fn copy<E: From<StoreError>>(
        &mut self,
        take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        copy(&mut self.change, take).await
    }

    /// Commits the restored content.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if let StoreTransaction::Postgres(_) = self.change {
            let after = include_str!("../sql/copy_sequence.postgres.sql");
            self.change.execute(after, values![]).await?;
        }
        self.change.commit().await
    }
}

/// The statements that add rows to a table.
struct Insert {
    /// The statement for one row whose cells are parameters, for SQLite.
    one: String,
    /// The statement for rows that are objects of a JSON array, for Postgres.
    many: String,
}

impl Insert {
    fn new(table: &str, columns: &[String]) -> Self {
        let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let (table, columns) = (quoted(table), names.join(", "));
        let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
        // The copied row replaces the single row that exists from the beginning.
        let instead = match SINGLE_ROW_TABLES.iter().any(|name| quoted(name) == table) {
            true => " ON CONFLICT (only_row) DO UPDATE SET revision = excluded.revision",
            false => "",
        };
        Self {
            one: format!(
                "INSERT INTO {table} ({columns}) VALUES ({}){instead}",
                places.join(", ")
            ),
            many: format!(
                "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE \
                 SELECT {columns} FROM json_populate_recordset(NULL::{table}, CAST($1 AS json)){instead}"
            ),
        }
    }

    /// Adds the rows of a batch, and empties it.
    async fn many(
        &self,
        change: &mut StoreTransaction,
        batch: &mut Vec<Json>,
    ) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let rows = Json::Array(std::mem::take(batch)).to_string();
        change
            .execute_dynamic(&self.many, &[Value::Text(Some(rows.into()))])
            .await
    }
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
