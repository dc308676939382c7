//! Operators and parts of functions as functions that return right results or fail.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, IntervalMonthDayNanoArray,
};
use arrow::compute::kernels::numeric;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationNanosecondType, Float32Type, Float64Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::canonical::{canonical, with_canonical_nan};

/// Nanoseconds of a day, as intervals are compared.
const DAY: i128 = 86_400_000_000_000;
/// Casts that fail where a value has no result.
const STRICT: CastOptions = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};
/// From this size on, a double has no decimals.
const WHOLE: f64 = (1_u64 << 52) as f64;

/// The computation of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Exact {
    /// `+`, `-` or `*` of integers or decimals, with a result of this type. DataFusion's wrap (apache/datafusion#3520, #16406,
    /// #17539).
    Arithmetic(Operator, DataType),
    /// `-x` of an integer.
    Negation(DataType),
    /// A duration as an interval of days and a time.
    DaysAndTime,
    /// An interval without a part of a day. DataFusion drops that part when it adds the interval to a date.
    WholeDays,
    /// A number as one of this type, which has less precision.
    Narrowed(DataType),
    /// A number rounded to a whole one: doubles half to even, decimals half away from zero.
    Whole,
    /// The third argument, which is the first one rounded or truncated to the number of decimals in the second: corrected where
    /// DataFusion multiplies beyond the range of doubles.
    Rounded,
    /// A value of this type in its one form.
    Canonical(DataType),
    /// A value of this type with the positive NaN instead of others.
    CanonicalNan(DataType),
    /// The argument, of this type, as an expression that is not recognised as the same one elsewhere.
    Hidden(DataType),
    /// The first argument, of this type. As far as the optimiser knows, it is not constant, because the second one is not, and
    /// keys with other numbers are other values.
    GroupingKey(DataType, usize),
    /// True, but not constant as far as the optimiser knows.
    Varying,
}

impl Exact {
    /// Returns the call of the function.
    pub fn call(self, arguments: Vec<Expr>) -> Expr {
        let signature = match arguments.len() {
            0 => Signature::nullary(Volatility::Volatile),
            count => Signature::any(count, Volatility::Immutable),
        };
        let function = ExactFunction {
            exact: self,
            signature,
        };
        Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::new(ScalarUDF::from(function)),
            arguments,
        ))
    }
}

/// Returns the type of an expression that is a checked operator, without a look at its arguments.
pub(super) fn known_type(expression: &Expr) -> Option<DataType> {
    let Expr::ScalarFunction(call) = expression else {
        return None;
    };
    let function = call.func.inner().downcast_ref::<ExactFunction>()?;
    match &function.exact {
        Exact::Arithmetic(_, kind)
        | Exact::Negation(kind)
        | Exact::Canonical(kind)
        | Exact::CanonicalNan(kind)
        | Exact::Hidden(kind)
        | Exact::GroupingKey(kind, _) => Some(kind.clone()),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactFunction {
    exact: Exact,
    signature: Signature,
}

impl ScalarUDFImpl for ExactFunction {
    fn name(&self) -> &str {
        match &self.exact {
            Exact::Arithmetic(Operator::Plus, _) => "+",
            Exact::Arithmetic(Operator::Multiply, _) => "*",
            Exact::Arithmetic(..) | Exact::Negation(_) => "-",
            Exact::DaysAndTime => "days_and_time",
            Exact::WholeDays => "whole_days",
            Exact::Rounded => "rounded",
            Exact::Whole => "whole",
            Exact::Narrowed(_) => "narrowed",
            Exact::Canonical(_) => "canonical",
            Exact::CanonicalNan(_) => "canonical_nan",
            Exact::Hidden(_) => "hidden",
            Exact::GroupingKey(..) => "grouping_key",
            Exact::Varying => "varying",
        }
    }

    /// The name of an operator's column stays what it is in DataFusion.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match (&self.exact, args) {
            (Exact::Arithmetic(..), [left, right]) => {
                format!(
                    "{} {} {}",
                    left.schema_name(),
                    self.name(),
                    right.schema_name()
                )
            }
            (Exact::Negation(_), [value]) => format!("(- {})", value.schema_name()),
            (Exact::CanonicalNan(_), [value]) => value.schema_name().to_string(),
            (Exact::Rounded, [.., rounded]) => rounded.schema_name().to_string(),
            (_, args) => {
                let args: Vec<_> = args
                    .iter()
                    .map(|arg| arg.schema_name().to_string())
                    .collect();
                format!("{}({})", self.name(), args.join(","))
            }
        })
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let shown = |operand: &Expr| match operand {
            Expr::BinaryExpr(_) => format!("({operand})"),
            operand if known_type(operand).is_some() => format!("({operand})"),
            operand => operand.to_string(),
        };
        Ok(match (&self.exact, args) {
            (Exact::Arithmetic(..), [left, right]) => {
                format!("{} {} {}", shown(left), self.name(), shown(right))
            }
            (Exact::Negation(_), [value]) => format!("(- {value})"),
            (Exact::CanonicalNan(_), [value]) => value.to_string(),
            (_, args) => {
                let args: Vec<_> = args.iter().map(ToString::to_string).collect();
                format!("{}({})", self.name(), args.join(", "))
            }
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        Ok(match &self.exact {
            Exact::Arithmetic(_, kind)
            | Exact::Negation(kind)
            | Exact::Canonical(kind)
            | Exact::CanonicalNan(kind)
            | Exact::Hidden(kind)
            | Exact::GroupingKey(kind, _)
            | Exact::Narrowed(kind) => kind.clone(),
            Exact::Varying => DataType::Boolean,
            Exact::DaysAndTime | Exact::WholeDays => DataType::Interval(IntervalUnit::MonthDayNano),
            Exact::Whole => match kinds {
                [kind] => without_decimals(kind),
                _ => return internal_err!("expected one number"),
            },
            Exact::Rounded => match kinds.last() {
                Some(kind) => kind.clone(),
                None => return internal_err!("expected a rounded number"),
            },
        })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let (Exact::Arithmetic(operator, kind), [left, right]) = (&self.exact, &*call.args) {
            return checked(*operator, kind, left, right);
        }
        if matches!(self.exact, Exact::Varying) {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))));
        }
        if let (Exact::GroupingKey(..), [key, _]) = (&self.exact, &*call.args) {
            return Ok(key.clone());
        }
        let is_constant = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let is_constant = call.args.iter().all(is_constant);
        let rows = if is_constant { 1 } else { call.number_rows };
        let arrays = call.args.into_iter().map(|value| value.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let result = match (&self.exact, &*arrays) {
            (Exact::Negation(_), [values]) => {
                numeric::neg(values).map_err(|error| out_of_range("-", &error))?
            }
            (Exact::DaysAndTime, [values]) => days_and_times(values)?,
            (Exact::WholeDays, [values]) => whole_days(values)?,
            (Exact::Whole, [values]) => whole(values)?,
            (Exact::Narrowed(kind), [values]) => cast_with_options(values, kind, &STRICT)?,
            (Exact::Canonical(_), [values]) => canonical(values)?,
            (Exact::CanonicalNan(_), [values]) => with_canonical_nan(values)?,
            (Exact::Hidden(_), [values]) => Arc::clone(values),
            (Exact::Rounded, [values, places, rounded]) => corrected(values, places, rounded)?,
            _ => return internal_err!("wrong number of arguments of {}", self.name()),
        };
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &result, 0,
            )?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }

    /// All of them are null where an argument is.
    fn is_strict(&self) -> bool {
        true
    }
}

fn out_of_range(operator: &str, error: &dyn std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the result of {operator} is out of range ({error}); cast to a wider type such as BIGINT, DECIMAL(38, 0) or DOUBLE"
    ))
}

fn checked(
    operator: Operator,
    kind: &DataType,
    left: &ColumnarValue,
    right: &ColumnarValue,
) -> Result<ColumnarValue> {
    let kernel = match operator {
        Operator::Plus => numeric::add,
        Operator::Minus => numeric::sub,
        Operator::Multiply => numeric::mul,
        other => return internal_err!("{other} is not checked"),
    };
    let failed = |error: DataFusionError| match error {
        DataFusionError::ArrowError(error, _)
            if matches!(*error, ArrowError::ArithmeticOverflow(_)) =>
        {
            out_of_range(&operator.to_string(), &error)
        }
        error => error,
    };
    let result = apply(left, right, kernel).map_err(failed)?;
    if let DataType::Decimal128(precision, _) = kind {
        let values = result.to_array(1)?;
        let values = values.as_primitive::<Decimal128Type>();
        values
            .validate_decimal_precision(*precision)
            .map_err(|error| out_of_range(&operator.to_string(), &error))?;
    }
    Ok(result)
}

fn intervals(values: &ArrayRef) -> Result<IntervalMonthDayNanoArray> {
    let kind = DataType::Interval(IntervalUnit::MonthDayNano);
    let values = match values.data_type() {
        DataType::Duration(_) => return nanoseconds_as_intervals(values),
        other if *other == kind => Arc::clone(values),
        _ => cast(values, &kind)?,
    };
    Ok(values.as_primitive::<IntervalMonthDayNanoType>().clone())
}

fn durations(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(values, &DataType::Duration(TimeUnit::Nanosecond))?)
}

fn nanoseconds_as_intervals(values: &ArrayRef) -> Result<IntervalMonthDayNanoArray> {
    let values = durations(values)?;
    let values = values.as_primitive::<DurationNanosecondType>().iter();
    let intervals =
        values.map(|value| value.map(|nanoseconds| IntervalMonthDayNano::new(0, 0, nanoseconds)));
    Ok(intervals.collect())
}

fn days_and_times(values: &ArrayRef) -> Result<ArrayRef> {
    const DAY: i64 = 86_400_000_000_000;
    let values = durations(values)?;
    let values = values.as_primitive::<DurationNanosecondType>().iter();
    // 64 bits of nanoseconds are at most 106,752 days.
    let parts = |nanoseconds: i64| {
        let days = i32::try_from(nanoseconds / DAY).unwrap_or_default();
        IntervalMonthDayNano::new(0, days, nanoseconds % DAY)
    };
    let spans: IntervalMonthDayNanoArray = values.map(|value| value.map(parts)).collect();
    Ok(Arc::new(spans))
}

fn whole_days(values: &ArrayRef) -> Result<ArrayRef> {
    let spans = intervals(values)?;
    if spans.iter().flatten().any(has_part_of_day) {
        return exec_err!("{PART_OF_DAY}");
    }
    Ok(Arc::new(spans))
}

/// The error of a date plus hours.
pub(super) const PART_OF_DAY: &str = "cannot add a part of a day to a DATE, which has no time: cast it first, such as CAST(d AS TIMESTAMP) + INTERVAL '1 hour'";

/// Whether adding the interval to a date would need a time.
pub(super) fn has_part_of_day(span: IntervalMonthDayNano) -> bool {
    i128::from(span.nanoseconds) % DAY != 0
}

fn whole(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            let rounded: Float32Array = values.unary(f32::round_ties_even);
            Arc::new(rounded)
        }
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            let rounded: Float64Array = values.unary(f64::round_ties_even);
            Arc::new(rounded)
        }
        // Arrow rounds decimals half away from zero when it drops digits.
        kind => cast(values, &without_decimals(kind))?,
    })
}

/// Returns the type of rounded numbers of this type.
fn without_decimals(kind: &DataType) -> DataType {
    match kind {
        DataType::Decimal128(precision, _) => DataType::Decimal128(*precision, 0),
        DataType::Decimal256(precision, _) => DataType::Decimal256(*precision, 0),
        other => other.clone(),
    }
}

fn corrected(values: &ArrayRef, places: &ArrayRef, rounded: &ArrayRef) -> Result<ArrayRef> {
    if *rounded.data_type() != DataType::Float64 {
        return Ok(Arc::clone(rounded));
    }
    let places = cast(places, &DataType::Int64)?;
    let places = places.as_primitive::<Int64Type>();
    let values = cast(values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let rounded = rounded.as_primitive::<Float64Type>();
    let rows = values.iter().zip(places.iter()).zip(rounded.iter());
    let corrected = rows.map(|((value, places), rounded)| Some(correct(value?, places?, rounded?)));
    Ok(Arc::new(corrected.collect::<Float64Array>()))
}

/// Returns the rounded value, or the right one if that is wrong.
fn correct(value: f64, places: i64, rounded: f64) -> f64 {
    if !value.is_finite() || (places >= 0 && value.abs() >= WHOLE) {
        return value;
    }
    if rounded.is_finite() && places.abs() <= 290 {
        return rounded;
    }
    match places {
        // Less than half of 10^309.
        ..-308 => 0.0,
        // More decimals than the distance between doubles of that size.
        0.. if value.abs() >= 1e-270 => value,
        0..=340 => {
            let rest = i32::try_from(places - 290).unwrap_or_default();
            let scaled = value * 1e290 * 10_f64.powi(rest);
            scaled.round() / 10_f64.powi(rest) / 1e290
        }
        341.. => value,
        _ => rounded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_beyond_the_range_of_doubles_is_corrected() {
        for (value, places, expected) in [
            (1.5, 400, 1.5),
            (1.5, -400, 0.0),
            (1e300, 300, 1e300),
            (1e-300, 295, 0.0),
            (1.26e-300, 301, 1.3e-300),
            (f64::MIN_POSITIVE, i64::MAX, f64::MIN_POSITIVE),
            (f64::INFINITY, 2, f64::INFINITY),
        ] {
            let found = correct(value, places, f64::NAN);
            let distance = (found - expected).abs();
            assert!(
                found == expected || distance <= expected.abs() * 1e-15,
                "{value} {places}: {found}"
            );
        }
        assert_eq!(correct(1.25, 1, 1.3), 1.3);
    }
}
