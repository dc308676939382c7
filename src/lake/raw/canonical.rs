//! Converts columns of all accepted types to the canonical types that the resample operator reads.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, DictionaryArray, Int32Builder, PrimitiveArray,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Int32Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use chrono_tz::Tz;
use parquet::schema::types::SchemaDescriptor;

use super::decimals::decimals_to_doubles;
use super::error::RawFileError;
use super::format::RawFormat;
use super::local_times::LocalTimes;
use crate::model::printable;

fn text_dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn utc_micros() -> DataType {
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
    pub id: usize,
    pub timestamp: usize,
    pub value: usize,
}

impl ColumnPositions {
    /// Finds the columns and checks their types.
    pub fn find(path: &str, schema: &Schema, format: &RawFormat) -> Result<Self, RawFileError> {
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
        let located = Self {
            id: find(&columns.id)?,
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
        check(
            located.id,
            is_id(schema.field(located.id).data_type()),
            "a string or 16 bytes",
        )?;
        check(
            located.timestamp,
            matches!(
                schema.field(located.timestamp).data_type(),
                DataType::Timestamp(..)
            ),
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
        let roots = [self.id, self.timestamp, self.value];
        let leaves = 0..schema.num_columns();
        leaves
            .filter(|&leaf| roots.contains(&schema.get_column_root_idx(leaf)))
            .collect()
    }

    /// Returns the schema to request from the Parquet reader, or `None` if the file's own schema is good enough. With
    /// it, no text is built for each row, and INT96 times after the year 2262 do not overflow.
    pub fn reader_schema(&self, schema: &Schema, int96: bool) -> Option<SchemaRef> {
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut better = false;
        let id = schema.field(self.id);
        let text = match id.data_type() {
            DataType::Dictionary(_, value) => is_text(value),
            kind => is_text(kind),
        };
        if text && id.data_type() != &text_dictionary() {
            fields[self.id] = Arc::new(id.clone().with_data_type(text_dictionary()));
            better = true;
        }
        let is_bytes = match id.data_type() {
            DataType::Dictionary(_, value) => is_variable_binary(value),
            kind => is_variable_binary(kind),
        };
        // Views share equal values of a dictionary instead of repeating them.
        if is_bytes && id.data_type() != &DataType::BinaryView {
            fields[self.id] = Arc::new(id.clone().with_data_type(DataType::BinaryView));
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
            let kind = DataType::Timestamp(TimeUnit::Microsecond, None);
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
    let DataType::Timestamp(_, Some(zone)) = field.data_type() else {
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

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_binary(kind: &DataType) -> bool {
    kind == &DataType::FixedSizeBinary(16) || is_variable_binary(kind)
}

fn is_variable_binary(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

fn is_id(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_text(value) || is_binary(value),
        kind => is_text(kind) || is_binary(kind),
    }
}

fn is_number(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_number(value),
        kind => kind.is_numeric(),
    }
}

/// The maximum length in bytes of an id that is kept whole. No asset id is longer.
const MAX_ID_BYTES: usize = 64;

/// Converts an id column to a dictionary of text.
pub(super) fn convert_ids(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        kind if kind == &text_dictionary() => Ok(Arc::clone(column)),
        // Only the dictionary's values are converted: rows may share a long value, which must not be repeated for each
        // row.
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            take(&convert_ids(dictionary.values())?, dictionary.keys(), None)
        }
        DataType::Utf8View => {
            ids_from_views(&column.as_string_view().clone().to_binary_view(), false)
        }
        // Arrow has no direct cast, so the cast goes through the variable-length binary type.
        DataType::FixedSizeBinary(_) => convert_ids(&cast(column, &DataType::Binary)?),
        kind if is_binary(kind) => {
            let views = cast(column, &DataType::BinaryView)?;
            ids_from_views(views.as_binary_view(), true)
        }
        _ => cast(column, &text_dictionary()),
    }
}

/// Converts binary values to a dictionary of text. If `may_be_uuids`, 16 bytes become the text of a UUID. Other bytes
/// are read as text, and the caller checks whether that is a UUID.
fn ids_from_views(views: &BinaryViewArray, may_be_uuids: bool) -> Result<ArrayRef, ArrowError> {
    let mut keys = Int32Builder::with_capacity(views.len());
    let mut texts: Vec<String> = Vec::new();
    let mut known: HashMap<(&[u8], bool), i32> = HashMap::new();
    let mut last: Option<((&[u8], bool), i32)> = None;
    for bytes in views {
        let Some(bytes) = bytes else {
            keys.append_null();
            continue;
        };
        // A value that is too long is no asset id, so its first bytes are enough.
        let shown = (
            &bytes[..bytes.len().min(MAX_ID_BYTES)],
            bytes.len() > MAX_ID_BYTES,
        );
        let key = match last {
            Some((same, key)) if same == shown => key,
            _ => *known.entry(shown).or_insert_with(|| {
                texts.push(id_text(shown, may_be_uuids));
                texts.len() as i32 - 1
            }),
        };
        last = Some((shown, key));
        keys.append_value(key);
    }
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        keys.finish(),
        Arc::new(StringArray::from(texts)),
    )?))
}

fn id_text((bytes, is_cut): (&[u8], bool), may_be_uuid: bool) -> String {
    match uuid::Uuid::from_slice(bytes) {
        Ok(uuid) if may_be_uuid => uuid.to_string(),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            format!("{text}{}", if is_cut { "…" } else { "" })
        }
    }
}

/// Converts a timestamp column to UTC microseconds, rounded down.
pub(super) fn convert_times(column: &ArrayRef, timezone: Tz) -> Result<ArrayRef, ArrowError> {
    const THOUSAND: i64 = 1_000;
    let DataType::Timestamp(unit, zone) = column.data_type() else {
        return Err(ArrowError::CastError(format!(
            "{} is not a timestamp",
            column.data_type()
        )));
    };
    let micros: TimestampMicrosecondArray = match unit {
        TimeUnit::Second => scale_times::<TimestampSecondType>(column, |time| {
            time.saturating_mul(THOUSAND * THOUSAND)
        }),
        TimeUnit::Millisecond => {
            scale_times::<TimestampMillisecondType>(column, |time| time.saturating_mul(THOUSAND))
        }
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().clone(),
        TimeUnit::Nanosecond => {
            scale_times::<TimestampNanosecondType>(column, |time| time.div_euclid(THOUSAND))
        }
    };
    let micros = if zone.is_none() && timezone != Tz::UTC {
        let mut local = LocalTimes::new(timezone);
        let (_, times, nulls) = micros.into_parts();
        TimestampMicrosecondArray::new(
            times.iter().map(|&time| local.resolve(time)).collect(),
            nulls,
        )
    } else {
        micros
    };
    Ok(Arc::new(micros.with_timezone("UTC")))
}

fn scale_times<T: ArrowPrimitiveType<Native = i64>>(
    column: &ArrayRef,
    scale: impl Fn(i64) -> i64,
) -> TimestampMicrosecondArray {
    let times: &PrimitiveArray<T> = column.as_primitive();
    times.unary(scale)
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
