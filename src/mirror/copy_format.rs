//! Rows of the lake's tables in the binary format of Postgres's COPY: per row the number of fields, per field its length
//! and its bytes, in big-endian order.

use std::collections::HashSet;
use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use uuid::Uuid;

use crate::model::{DateSet, day_of};
use crate::rollup_schema::{ASSET_COLUMN, Column, ColumnKind, RollupSchema, TIME_COLUMN};

/// The header of a COPY: the signature, no flags, no extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of a COPY.
pub(super) const TRAILER: &[u8; 2] = b"\xff\xff";

/// The epoch of Postgres, 2000-01-01, in microseconds since the Unix epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The length of a field that is null.
const NULL_LENGTH: i32 = -1;
/// The maximum size of a field in bytes, with its length: a UUID.
const MAX_FIELD_BYTES: usize = 4 + 16;

/// A batch does not have the schema of a rollup table.
#[derive(Debug, thiserror::Error)]
#[error("invalid column {column}: {problem}")]
pub(super) struct MalformedColumn {
    column: &'static str,
    problem: String,
}

/// The columns of a batch of a rollup table.
pub(super) struct Rows<'a> {
    columns: Vec<Values<'a>>,
    assets: Assets<'a>,
    times: &'a ScalarBuffer<i64>,
}

/// The values of one column.
enum Values<'a> {
    Asset,
    Time,
    /// The bits of doubles or integers, and their nulls.
    Number(&'a [u64], Option<&'a NullBuffer>),
}

struct Assets<'a> {
    column: &'static str,
    ids: Vec<Uuid>,
    keys: &'a ScalarBuffer<i32>,
}

fn malformed(column: &Column, problem: impl Into<String>) -> MalformedColumn {
    MalformedColumn {
        column: column.name,
        problem: problem.into(),
    }
}

fn of_another_type(column: &Column, array: &dyn Array) -> MalformedColumn {
    malformed(column, format!("it has the type {}", array.data_type()))
}

impl<'a> Rows<'a> {
    /// Reads the columns of a batch of `schema`.
    pub fn new(batch: &'a RecordBatch, schema: &RollupSchema) -> Result<Self, MalformedColumn> {
        let (mut assets, mut times) = (None, None);
        let mut columns = Vec::new();
        for (at, column) in schema.columns().iter().enumerate() {
            let array = batch.columns().get(at);
            let array = array.ok_or_else(|| malformed(column, "it is missing"))?;
            let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
            if let Some(nulls) = nulls.filter(|_| !column.nullable) {
                let problem = format!("it has {} nulls", nulls.null_count());
                return Err(malformed(column, problem));
            }
            let of_another_type = || of_another_type(column, array);
            columns.push(match column.kind {
                ColumnKind::Asset => {
                    assets = Some(Assets::new(column, array)?);
                    Values::Asset
                }
                ColumnKind::Time => {
                    let array = array.as_primitive_opt::<TimestampMicrosecondType>();
                    times = Some(array.ok_or_else(of_another_type)?.values());
                    Values::Time
                }
                ColumnKind::Double => {
                    let array = array.as_primitive_opt::<Float64Type>();
                    Values::Number(bits(array.ok_or_else(of_another_type)?.values()), nulls)
                }
                ColumnKind::Integer => {
                    let array = array.as_primitive_opt::<Int64Type>();
                    Values::Number(bits(array.ok_or_else(of_another_type)?.values()), nulls)
                }
            });
        }
        let incomplete = || MalformedColumn {
            column: ASSET_COLUMN,
            problem: "the batch has no asset or no time".to_owned(),
        };
        Ok(Self {
            columns,
            assets: assets.ok_or_else(incomplete)?,
            times: times.ok_or_else(incomplete)?,
        })
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Appends the rows in `range` that are on one of `dates` to `out`, and their assets to `seen`; returns the number of
    /// rows.
    pub fn encode(
        &self,
        range: Range<usize>,
        dates: &DateSet,
        out: &mut Vec<u8>,
        seen: &mut HashSet<Uuid>,
    ) -> Result<u64, MalformedColumn> {
        out.reserve(range.len() * (2 + self.columns.len() * MAX_FIELD_BYTES));
        let field_count = (self.columns.len() as i16).to_be_bytes();
        let mut encoded = 0;
        let mut last_key = None;
        // Rows of the same date are adjacent.
        let mut last_date = None;
        for at in range {
            let time = self.times[at];
            let day = day_of(time);
            let is_wanted = match last_date {
                Some((date, is_wanted)) if date == day => is_wanted,
                _ => dates.contains(day),
            };
            last_date = Some((day, is_wanted));
            if !is_wanted {
                continue;
            }
            let (key, asset) = self.assets.get(at)?;
            if last_key != Some(key) {
                seen.insert(*asset);
                last_key = Some(key);
            }
            let time = time
                .checked_sub(POSTGRES_EPOCH_MICROS)
                .ok_or_else(|| MalformedColumn {
                    column: TIME_COLUMN,
                    problem: format!("{time} is out of range"),
                })?;
            out.extend_from_slice(&field_count);
            for column in &self.columns {
                match column {
                    Values::Asset => {
                        out.extend_from_slice(&16_i32.to_be_bytes());
                        out.extend_from_slice(asset.as_bytes());
                    }
                    Values::Time => push_number(out, time as u64),
                    Values::Number(_, Some(nulls)) if nulls.is_null(at) => {
                        out.extend_from_slice(&NULL_LENGTH.to_be_bytes());
                    }
                    Values::Number(values, _) => push_number(out, values[at]),
                }
            }
            encoded += 1;
        }
        Ok(encoded)
    }
}

/// Appends a field of 64 bits.
fn push_number(out: &mut Vec<u8>, bits: u64) {
    let mut field = [0; 12];
    field[..4].copy_from_slice(&8_i32.to_be_bytes());
    field[4..].copy_from_slice(&bits.to_be_bytes());
    out.extend_from_slice(&field);
}

/// Returns the bits of numbers of 64 bits.
fn bits<T: ArrowNativeType>(values: &ScalarBuffer<T>) -> &[u64] {
    values.inner().typed_data::<u64>()
}

impl<'a> Assets<'a> {
    fn new(column: &Column, array: &'a dyn Array) -> Result<Self, MalformedColumn> {
        let array = array
            .as_dictionary_opt::<Int32Type>()
            .ok_or_else(|| of_another_type(column, array))?;
        let texts = array
            .values()
            .as_string_opt::<i32>()
            .ok_or_else(|| of_another_type(column, array))?;
        let parse = |text: Option<&str>| {
            let text = text.unwrap_or_default();
            let parsed = Uuid::try_parse(text);
            parsed.map_err(|_| malformed(column, format!("{text:?} is not a UUID")))
        };
        Ok(Self {
            column: column.name,
            ids: texts.iter().map(parse).collect::<Result<_, _>>()?,
            keys: array.keys().values(),
        })
    }

    /// Returns the key and the asset of a row.
    fn get(&self, row: usize) -> Result<(i32, &Uuid), MalformedColumn> {
        let key = self.keys[row];
        let asset = usize::try_from(key).ok().and_then(|key| self.ids.get(key));
        match asset {
            Some(asset) => Ok((key, asset)),
            None => Err(MalformedColumn {
                column: self.column,
                problem: format!("key {key} is not in the dictionary"),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
