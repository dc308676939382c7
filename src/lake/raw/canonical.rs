//! The canonical types that the resample operator reads, and the columns of a file that are converted to them.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::schema::types::SchemaDescriptor;

use super::decimals::decimals_to_doubles;
use super::error::RawFileError;
use super::format::RawFormat;
use crate::model::printable;

/// Returns the canonical type of ids.
pub(super) fn text_dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Returns the canonical type of times.
pub(super) fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Returns the canonical schema: `id`, `timestamp` and `value`, all nullable.
pub(super) fn canonical_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("id", text_dictionary(), true),
            Field::new("timestamp", utc_micros(), true),
            Field::new("value", DataType::Float64, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The positions of the three columns in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnPositions {
    /// `None` if the path of the file has the id of all its readings.
    pub id: Option<usize>,
    pub timestamp: usize,
    pub value: usize,
}

impl ColumnPositions {
    /// Finds the columns and checks their types. The column of ids may be missing if `has_path_id`.
    pub fn find(
        path: &str,
        schema: &Schema,
        format: &RawFormat,
        has_path_id: bool,
    ) -> Result<Self, RawFileError> {
        let find = |name: &str| {
            let mut found = schema
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, field)| field.name() == name);
            let first = found.next().ok_or_else(|| RawFileError::MissingColumn {
                path: path.to_owned(),
                column: name.to_owned(),
                found: schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .take(20)
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
            match found.next() {
                None => Ok(first.0),
                Some(_) => Err(RawFileError::Unreadable {
                    path: path.to_owned(),
                    reason: format!("it has two columns {name:?}"),
                }),
            }
        };
        let columns = &format.columns;
        let is_in_path = has_path_id && schema.index_of(&columns.id).is_err();
        let located = Self {
            id: match is_in_path {
                true => None,
                false => Some(find(&columns.id)?),
            },
            timestamp: find(&columns.timestamp)?,
            value: find(&columns.value)?,
        };
        let check = |index: usize, fits: bool, expected: &'static str| {
            let field = schema.field(index);
            if fits {
                return Ok(());
            }
            Err(RawFileError::WrongType {
                path: path.to_owned(),
                column: field.name().clone(),
                found: field.data_type().to_string(),
                expected,
            })
        };
        if let Some(id) = located.id {
            let is_accepted = is_id(schema.field(id).data_type());
            check(id, is_accepted, "a string or 16 bytes")?;
        }
        check(
            located.timestamp,
            is_time(schema.field(located.timestamp).data_type()),
            "a timestamp",
        )?;
        check_zone(path, schema.field(located.timestamp))?;
        check(
            located.value,
            is_number(schema.field(located.value).data_type()),
            "a number",
        )?;
        Ok(located)
    }

    /// Returns the indices of the columns among the leaves of a Parquet schema.
    pub fn leaves(&self, schema: &SchemaDescriptor) -> Vec<usize> {
        let roots = self.roots();
        let leaves = 0..schema.num_columns();
        leaves
            .filter(|&leaf| roots.contains(&schema.get_column_root_idx(leaf)))
            .collect()
    }

    /// Returns the positions of the columns that the file has.
    pub fn roots(&self) -> Vec<usize> {
        let id = self.id.into_iter();
        id.chain([self.timestamp, self.value]).collect()
    }

    /// Returns the schema to request from the Parquet reader, or `None` if the file's own schema is good enough. With
    /// it, no text is built for each row, and INT96 times after the year 2262 do not overflow.
    pub fn reader_schema(&self, schema: &Schema, int96: bool) -> Option<SchemaRef> {
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut better = false;
        if let Some(id) = self.id
            && let Some(kind) = better_id_type(schema.field(id).data_type())
        {
            fields[id] = Arc::new(schema.field(id).clone().with_data_type(kind));
            better = true;
        }
        // The Parquet reader has no dictionaries of decimals, and for other numbers they are no gain.
        let value = schema.field(self.value);
        if let DataType::Dictionary(_, number) = value.data_type() {
            let plain = value.clone().with_data_type(number.as_ref().clone());
            fields[self.value] = Arc::new(plain);
            better = true;
        }
        if int96 {
            // The format has no time zone for these times; some writers store one in the Arrow schema.
            let zone = match plain_type(schema.field(self.timestamp).data_type()) {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let kind = DataType::Timestamp(TimeUnit::Microsecond, zone);
            fields[self.timestamp] =
                Arc::new(schema.field(self.timestamp).clone().with_data_type(kind));
            better = true;
        }
        better.then(|| Arc::new(Schema::new(fields)))
    }
}

/// The maximum length of a time zone in an error, in characters.
const MAX_SHOWN_ZONE_CHARS: usize = 60;

/// Checks that the time zone of a timestamp column is valid.
fn check_zone(path: &str, field: &Field) -> Result<(), RawFileError> {
    let DataType::Timestamp(_, Some(zone)) = plain_type(field.data_type()) else {
        return Ok(());
    };
    // Some writers spell UTC differently.
    let is_utc = zone.eq_ignore_ascii_case("UTC") || zone.eq_ignore_ascii_case("Z");
    if is_utc || zone.parse::<arrow::array::timezone::Tz>().is_ok() {
        return Ok(());
    }
    Err(RawFileError::Unreadable {
        path: path.to_owned(),
        reason: format!(
            "the column {:?} has the invalid time zone {:?}; use an IANA name such as Europe/Berlin, or an offset such as +01:00",
            printable(field.name(), MAX_SHOWN_ZONE_CHARS),
            printable(zone, MAX_SHOWN_ZONE_CHARS)
        ),
    })
}

/// Returns the type of the values of a dictionary, and any other type as it is.
pub(super) fn plain_type(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, value) => value,
        kind => kind,
    }
}

/// Returns the type in which a column of ids is read faster than in its own: without a text for each row.
fn better_id_type(kind: &DataType) -> Option<DataType> {
    let better = match plain_type(kind) {
        plain if is_text(plain) => text_dictionary(),
        // Views share equal values of a dictionary instead of repeating them.
        plain if is_variable_binary(plain) => DataType::BinaryView,
        _ => return None,
    };
    (kind != &better).then_some(better)
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Whether values of a type are read as the bytes of ids.
pub(super) fn is_binary(kind: &DataType) -> bool {
    kind == &DataType::FixedSizeBinary(16) || is_variable_binary(kind)
}

fn is_variable_binary(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

// A column of which all values are null has the type null: a writer without a schema saw no value.

fn is_id(kind: &DataType) -> bool {
    let kind = plain_type(kind);
    is_text(kind) || is_binary(kind) || kind.is_null()
}

fn is_time(kind: &DataType) -> bool {
    let kind = plain_type(kind);
    matches!(kind, DataType::Timestamp(..)) || kind.is_null()
}

fn is_number(kind: &DataType) -> bool {
    let kind = plain_type(kind);
    kind.is_numeric() || kind.is_null()
}

/// Converts a value column to the nearest doubles.
pub(super) fn convert_values(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Float64 => Ok(Arc::clone(column)),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            take(
                &convert_values(dictionary.values())?,
                dictionary.keys(),
                None,
            )
        }
        // Arrow rounds decimals twice. All other numbers are rounded once, or not at all.
        _ => match decimals_to_doubles(column) {
            Some(doubles) => Ok(Arc::new(doubles)),
            None => cast(column, &DataType::Float64),
        },
    }
}
