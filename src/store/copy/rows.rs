//! Converts rows to lines of text, and back.

use serde_json::Value as Json;

use super::table::{Column, ColumnKind};
use crate::model::{hex, micros};
use crate::store::backend::database::{Row, Value};
use crate::store::error::StoreError;

/// Returns the line with the names of the columns.
pub(super) fn header_line(columns: &[Column]) -> Result<Vec<u8>, StoreError> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut line = Vec::new();
    write_line(&names, &mut line)?;
    Ok(line)
}

/// Appends the line of a row.
pub(super) fn write(row: &Row, columns: &[Column], out: &mut Vec<u8>) -> Result<(), StoreError> {
    let cells = columns.iter().map(|column| cell(row, column));
    write_line(&cells.collect::<Result<Vec<Json>, _>>()?, out)
}

fn write_line(cells: &impl serde::Serialize, out: &mut Vec<u8>) -> Result<(), StoreError> {
    serde_json::to_writer(&mut *out, cells)
        .map_err(|error| StoreError::damaged("a row", &error))?;
    out.push(b'\n');
    Ok(())
}

fn cell(row: &Row, column: &Column) -> Result<Json, StoreError> {
    let name = column.name.as_str();
    let found = match column.kind {
        ColumnKind::Text => row.get::<Option<String>>(name)?.map(Json::from),
        ColumnKind::Id => row.optional_id(name)?.map(|id| id.to_string().into()),
        ColumnKind::Time => row
            .optional_time(name)?
            .map(|time| micros::text(&time).into()),
        ColumnKind::Integer => row.get::<Option<i64>>(name)?.map(Json::from),
        ColumnKind::Fraction => row
            .get::<Option<f64>>(name)?
            .map(|number| number.to_string().into()),
        ColumnKind::Boolean => row.get::<Option<bool>>(name)?.map(Json::from),
        ColumnKind::Bytes => row
            .get::<Option<Vec<u8>>>(name)?
            .map(|bytes| hex(&bytes).into()),
    };
    Ok(found.unwrap_or(Json::Null))
}

/// Converts a cell to a parameter for SQLite. Returns `None` if it does not have the column's kind.
pub(super) fn parameter(cell: &Json, kind: ColumnKind) -> Option<Value> {
    Some(match (kind, cell) {
        (_, Json::Null) => Value::Text(None),
        (ColumnKind::Text | ColumnKind::Id | ColumnKind::Time, Json::String(text)) => {
            Value::Text(Some(text.as_str().into()))
        }
        (ColumnKind::Integer, Json::Number(number)) => Value::Integer(Some(number.as_i64()?)),
        (ColumnKind::Fraction, Json::String(text)) => Value::Number(Some(text.parse().ok()?)),
        (ColumnKind::Boolean, Json::Bool(boolean)) => Value::Boolean(*boolean),
        (ColumnKind::Bytes, Json::String(text)) => Value::Bytes(bytes(text)?),
        _ => return None,
    })
}

/// Converts a cell to the JSON that Postgres accepts. Returns `None` if it does not have the column's kind.
pub(super) fn to_postgres_json(cell: Json, kind: ColumnKind) -> Option<Json> {
    Some(match (kind, &cell) {
        (_, Json::Null)
        | (
            ColumnKind::Text | ColumnKind::Id | ColumnKind::Time | ColumnKind::Fraction,
            Json::String(_),
        )
        | (ColumnKind::Integer, Json::Number(_))
        | (ColumnKind::Boolean, Json::Bool(_)) => cell,
        (ColumnKind::Bytes, Json::String(text)) => format!("\\x{text}").into(),
        _ => return None,
    })
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}
