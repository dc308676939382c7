//! Values that clients bind to parameters: converted to the types of SQL as Postgres would, or refused with an error that
//! names the parameter.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue};

use crate::model::AssetId;

/// The number of bytes of a UUID.
const UUID_BYTES: usize = 16;
const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// Converts values whose meaning does not depend on where they are used: a UUID is the text of an asset's id, and a duration
/// is an interval. Whole numbers become integers where `declared`, by parameter number, wants them.
pub(super) fn normalised(
    values: &[ScalarValue],
    declared: &BTreeMap<usize, DataType>,
) -> Vec<ScalarValue> {
    let numbered = values.iter().zip(1..);
    numbered
        .map(|(value, number)| {
            let value = match value {
                ScalarValue::Dictionary(_, inside) => &**inside,
                value => value,
            };
            match declared.get(&number) {
                Some(DataType::Int64) => whole_number(value),
                Some(kind) if kind.is_string() => uuid_text(value),
                _ => None,
            }
            .or_else(|| plain(value))
            .unwrap_or_else(|| value.clone())
        })
        .collect()
}

fn plain(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::FixedSizeBinary(16, Some(_)) => uuid_text(value),
        ScalarValue::FixedSizeBinary(16, None) => Some(ScalarValue::Utf8(None)),
        ScalarValue::DurationSecond(count) => Some(interval(*count, 1_000_000_000)),
        ScalarValue::DurationMillisecond(count) => Some(interval(*count, 1_000_000)),
        ScalarValue::DurationMicrosecond(count) => Some(interval(*count, 1_000)),
        ScalarValue::DurationNanosecond(count) => Some(interval(*count, 1)),
        ScalarValue::List(list) => uuid_list(list),
        _ => None,
    }
}

/// Returns the text of the UUID that these bytes are; `None` for other values. Text of 16 characters is never one: one byte of
/// a UUID is above 127.
fn uuid_text(value: &ScalarValue) -> Option<ScalarValue> {
    let bytes = match value {
        ScalarValue::FixedSizeBinary(_, Some(bytes))
        | ScalarValue::Binary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes)) => bytes.as_slice(),
        _ => return None,
    };
    let is_fixed = matches!(value, ScalarValue::FixedSizeBinary(..));
    if !is_fixed
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    {
        return None;
    }
    let bytes: [u8; UUID_BYTES] = bytes.try_into().ok()?;
    Some(ScalarValue::Utf8(Some(
        AssetId::from_bytes(bytes).to_string(),
    )))
}

/// Returns a list of UUIDs as a list of texts; `None` for other lists.
fn uuid_list(list: &ListArray) -> Option<ScalarValue> {
    let ids = list.values().as_fixed_size_binary_opt()?;
    if ids.value_length() != UUID_BYTES as i32 {
        return None;
    }
    let texts = ids.iter().map(|id| {
        let id: [u8; UUID_BYTES] = id?.try_into().ok()?;
        Some(AssetId::from_bytes(id).to_string())
    });
    let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
    let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    let list = ListArray::try_new(field, offsets, texts, nulls).ok()?;
    Some(ScalarValue::List(Arc::new(list)))
}

/// Returns an interval of elapsed time. One that is too long for nanoseconds has days of 24 hours.
fn interval(count: Option<i64>, nanos: i64) -> ScalarValue {
    let elapsed = count.map(|count| i128::from(count) * i128::from(nanos));
    let value = elapsed.and_then(|elapsed| match i64::try_from(elapsed) {
        Ok(nanos) => Some(IntervalMonthDayNano::new(0, 0, nanos)),
        Err(_) => {
            let days = i32::try_from(elapsed / NANOS_PER_DAY).ok()?;
            let rest = i64::try_from(elapsed % NANOS_PER_DAY).ok()?;
            Some(IntervalMonthDayNano::new(0, days, rest))
        }
    });
    ScalarValue::IntervalMonthDayNano(value)
}

/// Returns a number without a fraction as an integer; `None` for other values.
fn whole_number(value: &ScalarValue) -> Option<ScalarValue> {
    let is_number = value.data_type().is_floating() || value.data_type().is_decimal();
    if !is_number || value.is_null() {
        return None;
    }
    let whole = value.cast_to(&DataType::Int64).ok()?;
    let back = whole.cast_to(&value.data_type()).ok()?;
    (back == *value).then_some(whole)
}

/// Whether the conversion of a value depends on the type that the statement expects.
fn depends_on_type(value: &ScalarValue) -> bool {
    !value.is_null() && !value.data_type().is_string()
}

/// Converts values to the types that the statement expects, by the name of the parameter, as far as they are known.
///
/// # Errors
/// If the value has a type that cannot be compared with the expected one.
pub(super) fn converted(
    values: Vec<ScalarValue>,
    expected: impl FnOnce() -> HashMap<String, Option<DataType>>,
) -> Result<Vec<ScalarValue>> {
    if !values.iter().any(depends_on_type) {
        return Ok(values);
    }
    let expected = expected();
    let numbered = values.into_iter().zip(1..);
    numbered
        .map(
            |(value, number): (ScalarValue, usize)| match expected.get(&format!("${number}")) {
                Some(Some(kind)) if depends_on_type(&value) => convert(value, kind, number),
                _ => Ok(value),
            },
        )
        .collect()
}

fn convert(value: ScalarValue, expected: &DataType, number: usize) -> Result<ScalarValue> {
    let kind = value.data_type();
    let refused = |hint: &str| {
        Err(DataFusionError::Plan(format!(
            "parameter ${number} has the type {}, where {} is expected; {hint}",
            named(&kind),
            named(expected)
        )))
    };
    match (Family::from_type(&kind), Family::from_type(expected)) {
        (Family::Binary, Family::Text) => match (uuid_text(&value), value.cast_to(expected)) {
            (Some(text), _) => Ok(text),
            (None, Ok(text)) if !text.is_null() => Ok(text),
            _ => refused("send a text, or the 16 bytes of a UUID"),
        },
        (Family::Instant, Family::Instant) => Ok(in_micros(value, expected)),
        // Times of day of different units are not compared with each other.
        (Family::Time, Family::Time) => {
            let cast = value.cast_to(expected);
            Ok(match cast {
                Ok(cast) if cast.cast_to(&kind).is_ok_and(|back| back == value) => cast,
                _ => value,
            })
        }
        // A number is added to a date, and an interval to an instant or a time.
        (Family::Number, Family::Instant) if !matches!(expected, DataType::Timestamp(..)) => {
            Ok(value)
        }
        (Family::Number, Family::Instant) => refused(&format!(
            "send a time, or write to_timestamp(${number}) for seconds since 1970"
        )),
        (Family::List, Family::Text | Family::Number | Family::Instant) => refused(&format!(
            "write = ANY(${number}) to compare with each value of a list"
        )),
        (Family::Instant, Family::Number | Family::Text | Family::Boolean)
        | (Family::Time, Family::Number | Family::Text | Family::Boolean)
        | (Family::Boolean, Family::Number | Family::Instant | Family::Time)
        | (Family::Number, Family::Boolean | Family::Time)
        | (Family::Binary, Family::Number | Family::Instant | Family::Time | Family::Boolean) => {
            refused(&format!(
                "send a value of that type, or write CAST(${number} AS …)"
            ))
        }
        _ => Ok(value),
    }
}

/// Types that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Text,
    Number,
    Boolean,
    /// Timestamps and dates.
    Instant,
    /// Times of day.
    Time,
    Binary,
    List,
    /// Intervals, and types that are compared with none of these.
    Other,
}

impl Family {
    fn from_type(kind: &DataType) -> Self {
        match kind {
            kind if kind.is_string() => Self::Text,
            kind if kind.is_numeric() => Self::Number,
            DataType::Boolean => Self::Boolean,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Self::Instant,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            kind if kind.is_binary() || matches!(kind, DataType::FixedSizeBinary(_)) => {
                Self::Binary
            }
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Self::List,
            _ => Self::Other,
        }
    }
}

/// Returns a type as users know it.
fn named(kind: &DataType) -> String {
    match Family::from_type(kind) {
        Family::Text => "text".to_owned(),
        Family::Number => format!("number ({kind})"),
        Family::Boolean => "boolean".to_owned(),
        Family::Instant if !matches!(kind, DataType::Timestamp(..)) => "date".to_owned(),
        Family::Instant => "timestamp".to_owned(),
        Family::Time => "time".to_owned(),
        Family::Binary => "binary".to_owned(),
        Family::List => "list".to_owned(),
        Family::Other => kind.to_string(),
    }
}

/// Returns a time in microseconds, like those that it is compared with, if that loses nothing. Otherwise, the times of the
/// table would be converted to nanoseconds, which not all of them can be.
fn in_micros(value: ScalarValue, expected: &DataType) -> ScalarValue {
    let zone = match (value.data_type(), expected) {
        (DataType::Timestamp(unit, zone), DataType::Timestamp(..))
            if unit != TimeUnit::Microsecond =>
        {
            zone
        }
        _ => return value,
    };
    let micros = value.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, zone));
    match micros {
        Ok(micros)
            if micros
                .cast_to(&value.data_type())
                .is_ok_and(|back| back == value) =>
        {
            micros
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";

    fn id_bytes() -> Vec<u8> {
        AssetId::parse(ID).unwrap().as_bytes().to_vec()
    }

    fn converted_to(value: ScalarValue, kind: DataType) -> Result<ScalarValue> {
        let values = normalised(&[value], &BTreeMap::new());
        let types = || HashMap::from([("$1".to_owned(), Some(kind))]);
        Ok(converted(values, types)?.remove(0))
    }

    #[test]
    fn values_are_converted_to_the_expected_type() {
        let text = || ScalarValue::from(ID);
        let micros = |time| ScalarValue::TimestampMicrosecond(Some(time), None);
        let timestamp = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let elapsed = |nanos| ScalarValue::new_interval_mdn(0, 0, nanos);
        for (value, kind, expected) in [
            (
                ScalarValue::FixedSizeBinary(16, Some(id_bytes())),
                DataType::Utf8View,
                text(),
            ),
            (
                ScalarValue::Binary(Some(id_bytes())),
                DataType::Utf8View,
                text(),
            ),
            (
                ScalarValue::Binary(Some(b"sixteen bytes of".to_vec())),
                DataType::Utf8,
                ScalarValue::from("sixteen bytes of"),
            ),
            (
                ScalarValue::TimestampNanosecond(Some(5_000), None),
                timestamp(),
                micros(5),
            ),
            (
                ScalarValue::TimestampMillisecond(Some(5), None),
                timestamp(),
                micros(5_000),
            ),
            (
                ScalarValue::TimestampNanosecond(Some(5_001), None),
                timestamp(),
                ScalarValue::TimestampNanosecond(Some(5_001), None),
            ),
            (
                ScalarValue::DurationMicrosecond(Some(7)),
                timestamp(),
                elapsed(7_000),
            ),
            (
                ScalarValue::DurationSecond(Some(86_400 * 200_000 + 1)),
                timestamp(),
                ScalarValue::new_interval_mdn(0, 200_000, 1_000_000_000),
            ),
            (
                ScalarValue::Int64(Some(1)),
                DataType::Float64,
                ScalarValue::Int64(Some(1)),
            ),
        ] {
            assert_eq!(
                converted_to(value.clone(), kind).unwrap(),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn values_of_another_kind_are_refused_by_the_name_of_the_parameter() {
        let timestamp = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (value, kind, says) in [
            (ScalarValue::Int64(Some(1)), timestamp(), "to_timestamp($1)"),
            (
                ScalarValue::Boolean(Some(true)),
                DataType::Float64,
                "boolean",
            ),
            (
                ScalarValue::Binary(Some(vec![255; 3])),
                DataType::Utf8,
                "16 bytes of a UUID",
            ),
            (
                ScalarValue::Date32(Some(1)),
                DataType::Float64,
                "number (Float64)",
            ),
        ] {
            let error = converted_to(value, kind).unwrap_err().to_string();
            assert!(
                error.contains("parameter $1") && error.contains(says),
                "{error}"
            );
        }
    }

    #[test]
    fn whole_numbers_become_integers_where_they_are_declared() {
        let declared = BTreeMap::from([(1, DataType::Int64), (2, DataType::Int64)]);
        let values = [ScalarValue::from(2.0), ScalarValue::from(2.5)];
        let expected = [ScalarValue::from(2_i64), ScalarValue::from(2.5)];
        assert_eq!(normalised(&values, &declared), expected);
    }
}
