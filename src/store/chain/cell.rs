//! One value of a row as JSON, exactly as stored. SQLite accepts any value in any column, and a change must not hide
//! behind an interpretation of values: an instant in another notation is another text.

use serde_json::Value as Json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo, ValueRef};

use crate::model::{hex, micros};
use crate::store::backend::database::Row;
use crate::store::error::StoreError;

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellKind {
    Text,
    Id,
    Time,
    Integer,
    Boolean,
}

/// Returns the value of a column.
pub(super) fn cell(row: &Row, column: &str, kind: CellKind) -> Result<Json, StoreError> {
    let found = match (row, kind) {
        (Row::Sqlite(row), kind) => return cell_from_sqlite(row, column, kind),
        (row, CellKind::Text) => row.get::<Option<String>>(column)?.map(Json::from),
        (row, CellKind::Id) => row.optional_id(column)?.map(|id| id.to_string().into()),
        (row, CellKind::Time) => {
            let time = row.optional_time(column)?;
            time.map(|time| micros::text(&time).into())
        }
        (row, CellKind::Integer) => row.get::<Option<i64>>(column)?.map(Json::from),
        (row, CellKind::Boolean) => row.get::<Option<bool>>(column)?.map(Json::from),
    };
    Ok(found.unwrap_or(Json::Null))
}

fn cell_from_sqlite(row: &SqliteRow, column: &str, kind: CellKind) -> Result<Json, StoreError> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(Json::Null);
    }
    let stored_as = value.type_info().name().to_owned();
    Ok(match stored_as.as_str() {
        "TEXT" => {
            let bytes: Vec<u8> = row.try_get_unchecked(column)?;
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        // SQLite stores booleans as numbers.
        "INTEGER" | "BOOLEAN" => match (row.try_get_unchecked::<i64, _>(column)?, kind) {
            (number @ (0 | 1), CellKind::Boolean) => (number == 1).into(),
            (number, _) => number.into(),
        },
        "REAL" => row.try_get_unchecked::<f64, _>(column)?.into(),
        other => {
            let bytes: Vec<u8> = row.try_get_unchecked(column)?;
            format!("{other} {}", hex(&bytes)).into()
        }
    })
}
