//! Conversions between local times and instants: of a zone that a cast implies, and the function `timezone`, which is
//! `AT TIME ZONE`.

use std::sync::{Arc, LazyLock};

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::temporal_conversions::as_datetime;
use chrono::{NaiveDateTime, TimeDelta};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_DATETIME;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::local_time::{
    ParsedTime, UTC, local_from_utc, parse_time, utc_from_local, zone_from_name,
};

/// The result of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// An instant, from a local time or a text.
    Instant,
    /// A local time, from an instant or a text.
    Local,
}

impl Target {
    fn convert(self, time: NaiveDateTime, zone: &Tz) -> Option<NaiveDateTime> {
        match self {
            Self::Instant => utc_from_local(time, zone),
            Self::Local => local_from_utc(time, zone),
        }
    }

    fn convert_text<T: ArrowTimestampType>(self, text: &str, zone: &Tz) -> Result<i64, ArrowError> {
        let time = match (parse_time(text)?, self) {
            (ParsedTime::Instant(utc), Self::Instant) => Some(utc),
            (ParsedTime::Local(local), Self::Local) => Some(local),
            (ParsedTime::Local(time), Self::Instant) | (ParsedTime::Instant(time), Self::Local) => {
                self.convert(time, zone)
            }
        };
        time.and_then(to_unit::<T>)
            .ok_or_else(|| ArrowError::CastError(format!("the time '{text}' is out of range")))
    }
}

/// Returns a time in the unit of the type, rounded to the nearest.
fn to_unit<T: ArrowTimestampType>(time: NaiveDateTime) -> Option<i64> {
    let half = match T::UNIT {
        TimeUnit::Second => 500_000_000,
        TimeUnit::Millisecond => 500_000,
        TimeUnit::Microsecond => 500,
        TimeUnit::Nanosecond => 0,
    };
    let rounded = time.checked_add_signed(TimeDelta::nanoseconds(half))?;
    T::from_naive_datetime(rounded, None)
}

/// Converts the values, which are texts, dates or times, to times of the type `T`.
///
/// # Errors
/// If a value cannot be converted, unless `is_try`: then it becomes null.
pub(super) fn convert_values<T: ArrowTimestampType>(
    values: &ArrayRef,
    target: Target,
    zone: &Tz,
    is_try: bool,
) -> Result<PrimitiveArray<T>> {
    if values.data_type().is_string() {
        let texts = cast(values, &DataType::Utf8View)?;
        let texts = texts.as_string_view().iter();
        let times = texts.map(
            |text| match text.map(|text| target.convert_text::<T>(text, zone)) {
                None => Ok(None),
                Some(Err(_)) if is_try => Ok(None),
                Some(converted) => converted.map(Some),
            },
        );
        let times: Vec<Option<i64>> = times.collect::<Result<_, ArrowError>>()?;
        return Ok(times.into_iter().collect());
    }
    let options = CastOptions {
        safe: is_try,
        ..CastOptions::default()
    };
    // Removing the label of a zone keeps the values.
    let times = cast_with_options(values, &DataType::Timestamp(T::UNIT, None), &options)?;
    let times = times.as_primitive::<T>();
    let convert = |time: i64| -> Option<i64> {
        let converted = target.convert(as_datetime::<T>(time)?, zone)?;
        T::from_naive_datetime(converted, None)
    };
    match is_try {
        true => Ok(times.unary_opt(convert)),
        false => Ok(times.try_unary(|time| {
            convert(time)
                .ok_or_else(|| ArrowError::CastError(format!("the time {time} is out of range")))
        })?),
    }
}

/// Converts the values to times of this unit and with this zone as the label.
pub(super) fn convert_to(
    values: &ArrayRef,
    (unit, label): (TimeUnit, Option<Arc<str>>),
    target: Target,
    zone: &Tz,
    is_try: bool,
) -> Result<ArrayRef> {
    fn converted<T: ArrowTimestampType>(
        values: &ArrayRef,
        label: Option<Arc<str>>,
        target: Target,
        zone: &Tz,
        is_try: bool,
    ) -> Result<ArrayRef> {
        let times = convert_values::<T>(values, target, zone, is_try)?;
        Ok(Arc::new(times.with_timezone_opt(label)))
    }
    let converted = match unit {
        TimeUnit::Second => converted::<TimestampSecondType>,
        TimeUnit::Millisecond => converted::<TimestampMillisecondType>,
        TimeUnit::Microsecond => converted::<TimestampMicrosecondType>,
        TimeUnit::Nanosecond => converted::<TimestampNanosecondType>,
    };
    converted(values, label, target, zone, is_try)
}

/// Applies a function of arrays to a value.
pub(super) fn map_value(
    value: &ColumnarValue,
    convert: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Array(values) => ColumnarValue::Array(convert(values)?),
        ColumnarValue::Scalar(value) => {
            let converted = convert(&value.to_array()?)?;
            ColumnarValue::Scalar(ScalarValue::try_from_array(&converted, 0)?)
        }
    })
}

/// A cast between a text, a local time and an instant, in a zone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeCast {
    target: Target,
    zone: Arc<str>,
    unit: TimeUnit,
    label: Option<Arc<str>>,
    is_try: bool,
    signature: Signature,
}

impl TimeCast {
    /// Creates the cast to an instant with a label, or to a local time without one.
    pub fn new(zone: Arc<str>, unit: TimeUnit, label: Option<Arc<str>>, is_try: bool) -> Self {
        Self {
            target: match label {
                Some(_) => Target::Instant,
                None => Target::Local,
            },
            zone,
            unit,
            label,
            is_try,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    /// Returns the cast of an expression. A constant is converted now, so that an error is one of the statement.
    pub fn into_expression(self, inner: Expr) -> Result<Expr> {
        if let Expr::Literal(value, _) = &inner {
            let values = self.convert(&value.to_array()?)?;
            let converted = ScalarValue::try_from_array(&values, 0)?;
            return Ok(Expr::Literal(converted, None));
        }
        let function = Arc::new(ScalarUDF::new_from_impl(self));
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
            function,
            vec![inner],
        )))
    }

    fn convert(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let zone = zone_from_name(&self.zone)?;
        let kind = (self.unit, self.label.clone());
        convert_to(values, kind, self.target, &zone, self.is_try)
    }
}

impl ScalarUDFImpl for TimeCast {
    fn name(&self) -> &str {
        match self.target {
            Target::Instant => "to_instant",
            Target::Local => "to_local",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(self.unit, self.label.clone()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_nullable = self.is_try || args.arg_fields.iter().any(|field| field.is_nullable());
        let kind = DataType::Timestamp(self.unit, self.label.clone());
        Ok(Arc::new(Field::new(self.name(), kind, is_nullable)))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = call.args.as_slice() else {
            return internal_err!("expected exactly one argument");
        };
        map_value(value, |values| self.convert(values))
    }
}

/// The documentation of `timezone`, which `SHOW FUNCTIONS` shows.
static TIMEZONE: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        DOC_SECTION_DATETIME,
        "Returns the local time of an instant in a zone, or the instant of a local time: time AT TIME ZONE zone.",
        "timezone(zone, time)",
    )
    .with_argument("zone", "An IANA name, or an offset east of Greenwich such as +05:30.")
    .with_argument("time", "A timestamp with or without a time zone, or a date.")
    .with_sql_example("SELECT timezone('Europe/Berlin', timestamp) FROM data_h")
    .build()
});

/// `timezone(zone, time)`, which is `time AT TIME ZONE zone`: the local time of an instant, or the instant of a local time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeZoneFunction {
    signature: Signature,
}

impl Default for TimeZoneFunction {
    fn default() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for TimeZoneFunction {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&TIMEZONE)
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        let [zone, time] = kinds else {
            return plan_err!(
                "timezone takes a zone and a time, not {} arguments",
                kinds.len()
            );
        };
        if !zone.is_string() && *zone != DataType::Null {
            return plan_err!(
                "a time zone is a text, not {zone}, as in AT TIME ZONE 'Europe/Berlin'"
            );
        }
        let time = match time {
            DataType::Timestamp(..) => time.clone(),
            // As in Postgres, a date and a text are instants in the session's zone.
            DataType::Date32
            | DataType::Null
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            other => {
                return plan_err!("AT TIME ZONE applies to a timestamp or a date, not to {other}");
            }
        };
        Ok(vec![DataType::Utf8, time])
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        match kinds {
            [_, DataType::Timestamp(unit, Some(_))] => Ok(DataType::Timestamp(*unit, None)),
            [_, DataType::Timestamp(unit, None)] => {
                Ok(DataType::Timestamp(*unit, Some(UTC.into())))
            }
            _ => plan_err!("timezone takes a zone and a time"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Timestamp(unit, label) = call.return_type().clone() else {
            return internal_err!("timezone returns a timestamp");
        };
        let target = match label {
            Some(_) => Target::Instant,
            None => Target::Local,
        };
        let kind = (unit, label);
        let [zone, time] = call.args.as_slice() else {
            return internal_err!("timezone takes two arguments");
        };
        match zone {
            ColumnarValue::Scalar(zone) => match zone.try_as_str().flatten() {
                Some(zone) => {
                    let zone = zone_from_name(zone)?;
                    map_value(time, |times| convert_to(times, kind, target, &zone, false))
                }
                None => Ok(ColumnarValue::Scalar(ScalarValue::try_from(
                    call.return_type(),
                )?)),
            },
            ColumnarValue::Array(zones) => {
                let times = time.to_array(call.number_rows)?;
                let converted = convert_rows(zones, &times, kind, target)?;
                Ok(ColumnarValue::Array(converted))
            }
        }
    }
}

/// Converts each time in the zone of its row.
fn convert_rows(
    zones: &ArrayRef,
    times: &ArrayRef,
    kind: (TimeUnit, Option<Arc<str>>),
    target: Target,
) -> Result<ArrayRef> {
    let zones = cast(zones, &DataType::Utf8View)?;
    let zones = zones.as_string_view();
    if zones.len() != times.len() {
        return exec_err!(
            "timezone got {} zones for {} times",
            zones.len(),
            times.len()
        );
    }
    let mut parts: Vec<ArrayRef> = Vec::new();
    let mut from = 0;
    // Rows with the same zone are converted together.
    while from < zones.len() {
        let zone = zones.is_valid(from).then(|| zones.value(from));
        let is_same = |row: &usize| zones.is_valid(*row).then(|| zones.value(*row)) == zone;
        let rows = (from..zones.len()).take_while(is_same).count();
        let slice = times.slice(from, rows);
        parts.push(match zone {
            Some(zone) => convert_to(&slice, kind.clone(), target, &zone_from_name(zone)?, false)?,
            None => {
                arrow::array::new_null_array(&DataType::Timestamp(kind.0, kind.1.clone()), rows)
            }
        });
        from += rows;
    }
    if parts.is_empty() {
        return Ok(arrow::array::new_empty_array(&DataType::Timestamp(
            kind.0, kind.1,
        )));
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&parts)?)
}
