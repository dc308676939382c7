//! `now` and the functions `to_timestamp…`: DataFusion's, with microseconds, and with texts in the session's zone.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::local_time::{UTC, session_zone, zone_from_name};
use super::time_cast::{Target, convert_to, map_value};

/// `now()` and `current_timestamp`: the start of the statement, in microseconds like the times in the tables.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Now {
    inner: Arc<ScalarUDF>,
}

impl Now {
    pub fn new(inner: Arc<ScalarUDF>) -> Self {
        Self { inner }
    }

    fn kind() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(Self::kind())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), Self::kind(), false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("now() is evaluated during planning")
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(now) = context.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let now = ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), Some(UTC.into()));
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(now, None)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// A function `to_timestamp…`: an instant from a number of seconds or parts of a second, from a text, or from a date.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToTimestamp {
    inner: Arc<ScalarUDF>,
    unit: TimeUnit,
    /// Whether numbers are seconds whatever the unit is.
    takes_seconds: bool,
    signature: Signature,
}

impl ToTimestamp {
    /// Wraps DataFusion's function with this name; `None` for other functions.
    pub fn new(inner: Arc<ScalarUDF>) -> Option<Self> {
        let (unit, takes_seconds) = match inner.name() {
            "to_timestamp" => (TimeUnit::Microsecond, true),
            "to_timestamp_seconds" => (TimeUnit::Second, false),
            "to_timestamp_millis" => (TimeUnit::Millisecond, false),
            "to_timestamp_micros" => (TimeUnit::Microsecond, false),
            "to_timestamp_nanos" => (TimeUnit::Nanosecond, false),
            _ => return None,
        };
        Some(Self {
            inner,
            unit,
            takes_seconds,
            signature: Signature::variadic_any(Volatility::Immutable),
        })
    }

    fn kind(&self) -> DataType {
        DataType::Timestamp(self.unit, Some(UTC.into()))
    }

    /// Returns the result of DataFusion's function, which gives texts in a column without a zone, though they are in UTC.
    fn invoke_inner(
        &self,
        function: &ScalarUDF,
        mut call: ScalarFunctionArgs,
    ) -> Result<ColumnarValue> {
        // DataFusion refuses a constant text with a column of formats.
        if call
            .args
            .iter()
            .any(|value| matches!(value, ColumnarValue::Array(_)))
        {
            let arrays = ColumnarValue::values_to_arrays(&call.args)?;
            call.args = arrays.into_iter().map(ColumnarValue::Array).collect();
        }
        // It is called beneath the check of its result's type, which is not the one that the plan has.
        let result = function.inner().invoke_with_args(call)?;
        let kind = self.kind();
        result.cast_to(&kind, None)
    }
}

/// Converts seconds to microseconds.
fn from_seconds(seconds: &ArrayRef) -> Result<ArrayRef> {
    let wrong = |seconds: f64| {
        ArrowError::CastError(format!(
            "{seconds} seconds since 1970 are out of range of timestamps"
        ))
    };
    let seconds = cast(seconds, &DataType::Float64)?;
    let times: PrimitiveArray<TimestampMicrosecondType> =
        seconds.as_primitive::<Float64Type>().try_unary(|seconds| {
            let micros = (seconds * 1e6).round();
            // Comparisons with NaN are false.
            match micros.abs() < 9.2e18 {
                true => Ok(micros as i64),
                false => Err(wrong(seconds)),
            }
        })?;
    Ok(Arc::new(times.with_timezone(UTC)))
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        match kinds.is_empty() {
            true => plan_err!("{} takes a number or a text", self.name()),
            false => Ok(self.kind()),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = call.args.first() else {
            return plan_err!("{} takes a number or a text", self.name());
        };
        let zone = session_zone(&call.config_options);
        let has_formats = call.args.len() > 1;
        let kind = (self.unit, Some(UTC.into()));
        match value.data_type() {
            source if source.is_string() && has_formats => {
                // The zone of a function is that of the options with which it was made.
                let in_zone = self.inner.inner().with_updated_config(&call.config_options);
                match in_zone {
                    Some(function) => self.invoke_inner(&function, call),
                    None => self.invoke_inner(&self.inner, call),
                }
            }
            source
                if source.is_string()
                    || matches!(source, DataType::Timestamp(_, None) | DataType::Date32) =>
            {
                let zone = zone_from_name(&zone)?;
                map_value(value, |values| {
                    convert_to(values, kind, Target::Instant, &zone, false)
                })
            }
            DataType::Timestamp(_, Some(_)) => value.cast_to(&self.kind(), None),
            source if self.takes_seconds && source.is_floating() => map_value(value, from_seconds),
            source if self.takes_seconds && source.is_integer() => value
                .cast_to(
                    &DataType::Timestamp(TimeUnit::Second, Some(UTC.into())),
                    None,
                )?
                .cast_to(&self.kind(), None),
            _ => self.invoke_inner(&self.inner, call),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
