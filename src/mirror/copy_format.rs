//! Rows of the lake's tables in the binary format of Postgres's COPY: per row the number of fields, per field its length
//! and its bytes, in big-endian order.

use std::collections::HashSet;
use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use uuid::Uuid;

use crate::lake::table::data_file_schema;
use crate::model::{DateSet, day_of};

/// The header of a COPY: the signature, no flags, no extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of a COPY.
pub(super) const TRAILER: &[u8; 2] = b"\xff\xff";

const FIELD_COUNT: i16 = 9;
/// The epoch of Postgres, 2000-01-01, in microseconds since the Unix epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The size of a row in bytes: a count, a UUID and eight numbers, each with its length.
const ROW_BYTES: usize = 2 + (4 + 16) + 8 * (4 + 8);
/// The size of a row whose last number is null.
const ROW_BYTES_WITHOUT_LAST: usize = ROW_BYTES - 8;

/// A batch does not have the schema of a rollup table.
#[derive(Debug, thiserror::Error)]
#[error("invalid column {column}: {problem}")]
pub(super) struct MalformedColumn {
    column: &'static str,
    problem: String,
}

/// The columns of a batch of a rollup table.
pub(super) struct Rows<'a> {
    assets: Vec<Uuid>,
    keys: &'a ScalarBuffer<i32>,
    times: &'a ScalarBuffer<i64>,
    counts: &'a ScalarBuffer<i64>,
    /// `value`, `min`, `max`, `first`, `last`.
    numbers: [&'a ScalarBuffer<f64>; 5],
    deviations: &'a arrow::array::Float64Array,
}

impl<'a> Rows<'a> {
    /// Reads the columns of a batch with [`data_file_schema`].
    pub fn new(batch: &'a RecordBatch) -> Result<Self, MalformedColumn> {
        let column = |name: &'static str| -> Result<&'a dyn Array, MalformedColumn> {
            let malformed = |problem: &str| MalformedColumn {
                column: name,
                problem: problem.to_owned(),
            };
            let at = data_file_schema().index_of(name);
            let at = at.map_err(|_| malformed("it is missing"))?;
            let column = batch.columns().get(at);
            let column = column.ok_or_else(|| malformed("it is missing"))?;
            match column.null_count() {
                0 => Ok(column),
                _ if name == "stddev" => Ok(column),
                nulls => Err(malformed(&format!("it has {nulls} nulls"))),
            }
        };
        let of_another_type = |name: &'static str, column: &dyn Array| MalformedColumn {
            column: name,
            problem: format!("it has the type {}", column.data_type()),
        };
        let doubles = |name: &'static str| {
            let column = column(name)?;
            let doubles = column.as_primitive_opt::<Float64Type>();
            doubles.ok_or_else(|| of_another_type(name, column))
        };
        let ids = column("asset_id")?;
        let ids = ids
            .as_dictionary_opt::<Int32Type>()
            .ok_or_else(|| of_another_type("asset_id", ids))?;
        let texts = ids
            .values()
            .as_string_opt::<i32>()
            .ok_or_else(|| of_another_type("asset_id", ids))?;
        let asset = |text: Option<&str>| {
            let text = text.unwrap_or_default();
            Uuid::try_parse(text).map_err(|_| MalformedColumn {
                column: "asset_id",
                problem: format!("{text:?} is not a UUID"),
            })
        };
        let times = column("timestamp")?;
        let counts = column("count")?;
        Ok(Self {
            assets: texts.iter().map(asset).collect::<Result<_, _>>()?,
            keys: ids.keys().values(),
            times: times
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(|| of_another_type("timestamp", times))?
                .values(),
            counts: counts
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| of_another_type("count", counts))?
                .values(),
            numbers: [
                doubles("value")?.values(),
                doubles("min")?.values(),
                doubles("max")?.values(),
                doubles("first")?.values(),
                doubles("last")?.values(),
            ],
            deviations: doubles("stddev")?,
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
        out.reserve(range.len() * ROW_BYTES);
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
            let key = self.keys[at];
            let asset = usize::try_from(key)
                .ok()
                .and_then(|key| self.assets.get(key));
            let asset = asset.ok_or_else(|| MalformedColumn {
                column: "asset_id",
                problem: format!("key {key} is not in the dictionary"),
            })?;
            if last_key != Some(key) {
                seen.insert(*asset);
                last_key = Some(key);
            }
            let time = time
                .checked_sub(POSTGRES_EPOCH_MICROS)
                .ok_or_else(|| MalformedColumn {
                    column: "timestamp",
                    problem: format!("{time} is out of range"),
                })?;
            let [value, min, max, first, last] =
                self.numbers.map(|column| column[at].to_be_bytes());
            let mut row = [0; ROW_BYTES];
            row[0..2].copy_from_slice(&FIELD_COUNT.to_be_bytes());
            row[2..6].copy_from_slice(&16_i32.to_be_bytes());
            row[6..22].copy_from_slice(asset.as_bytes());
            let numbers = [
                time.to_be_bytes(),
                value,
                self.counts[at].to_be_bytes(),
                min,
                max,
                first,
                last,
                self.deviations.value(at).to_be_bytes(),
            ];
            for (field, number) in row[22..].chunks_exact_mut(12).zip(numbers) {
                field[..4].copy_from_slice(&8_i32.to_be_bytes());
                field[4..].copy_from_slice(&number);
            }
            if self.deviations.is_null(at) {
                row[ROW_BYTES_WITHOUT_LAST - 4..ROW_BYTES_WITHOUT_LAST]
                    .copy_from_slice(&(-1_i32).to_be_bytes());
                out.extend_from_slice(&row[..ROW_BYTES_WITHOUT_LAST]);
            } else {
                out.extend_from_slice(&row);
            }
            encoded += 1;
        }
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests;
