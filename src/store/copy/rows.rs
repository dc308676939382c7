//! Converts rows to lines of text, and back.

use serde_json::Value as Json;

use super::super::StoreError;
use super::super::database::{Row, Value};
use super::table::{Column, Kind};
use crate::model::{hex, micros};

/// Returns the line with the names of the columns.
pub(super) fn head(columns: &[Column]) -> Result<Vec<u8>, StoreError> {
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
        Kind::Text => row.get::<Option<String>>(name)?.map(Json::from),
        Kind::Id => row.optional_id(name)?.map(|id| id.to_string().into()),
        Kind::Time => row
            .optional_time(name)?
            .map(|time| micros::text(&time).into()),
        Kind::Integer => row.get::<Option<i64>>(name)?.map(Json::from),
        Kind::Fraction => row
            .get::<Option<f64>>(name)?
            .map(|number| number.to_string().into()),
        Kind::Boolean => row.get::<Option<bool>>(name)?.map(Json::from),
        Kind::Bytes => row
            .get::<Option<Vec<u8>>>(name)?
            .map(|bytes| hex(&bytes).into()),
    };
    Ok(found.unwrap_or(Json::Null))
}

/// Converts a cell to a parameter for SQLite. Returns `None` if it does not have the column's kind.
pub(super) fn parameter(cell: &Json, kind: Kind) -> Option<Value> {
    Some(match (kind, cell) {
        (_, Json::Null) => Value::Text(None),
        (Kind::Text | Kind::Id | Kind::Time, Json::String(text)) => {
            Value::Text(Some(text.as_str().into()))
        }
        (Kind::Integer, Json::Number(number)) => Value::Integer(Some(number.as_i64()?)),
        (Kind::Fraction, Json::String(text)) => Value::Number(Some(text.parse().ok()?)),
        (Kind::Boolean, Json::Bool(boolean)) => Value::Boolean(*boolean),
        (Kind::Bytes, Json::String(text)) => Value::Bytes(bytes(text)?),
        _ => return None,
    })
}

/// Converts a cell to the JSON that Postgres accepts. Returns `None` if it does not have the column's kind.
pub(super) fn in_json(cell: Json, kind: Kind) -> Option<Json> {
    Some(match (kind, &cell) {
        (_, Json::Null)
        | (Kind::Text | Kind::Id | Kind::Time | Kind::Fraction, Json::String(_))
        | (Kind::Integer, Json::Number(_))
        | (Kind::Boolean, Json::Bool(_)) => cell,
        (Kind::Bytes, Json::String(text)) => format!("\\x{text}").into(),
        _ => return None,
    })
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}
