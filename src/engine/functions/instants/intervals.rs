//! Intervals as in Postgres: compared by their length, multiplied and divided by numbers, and added to instants in the
//! session's zone.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowTimestampType, DataType, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::temporal_conversions::as_datetime;
use chrono::{Months, NaiveDateTime, TimeDelta};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::local_time::{local_from_utc, utc_from_local, zone_from_name};
use crate::engine::functions::exact::days_and_time;

/// The type of intervals in SQL.
pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const NANOS_PER_DAY: i128 = 86_400_000_000_000;
/// A month counts as 30 days where intervals are compared or divided.
const DAYS_PER_MONTH: i32 = 30;
/// The precision of the length of an interval, which has at most 25 digits.
const LENGTH: DataType = DataType::Decimal128(38, 0);

fn call(function: impl ScalarUDFImpl + 'static, arguments: Vec<Expr>) -> Expr {
    let function = Arc::new(ScalarUDF::new_from_impl(function));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))
}

/// Returns the length of an interval, by which it is compared.
pub(super) fn length_of(interval: Expr) -> Expr {
    let function = IntervalLength {
        signature: Signature::exact(vec![INTERVAL], Volatility::Immutable),
    };
    call(function, vec![interval])
}

/// Returns the sum or the difference of an instant of the type `kind` and an interval, whose months and days are those of
/// `zone`.
pub(super) fn add_in_zone(
    instant: Expr,
    interval: Expr,
    kind: DataType,
    zone: &Arc<str>,
    is_subtracted: bool,
) -> Expr {
    let function = AddInterval {
        zone: Arc::clone(zone),
        kind,
        is_subtracted,
        signature: Signature::any(2, Volatility::Immutable),
    };
    call(function, vec![instant, interval])
}

/// The length of an interval in nanoseconds: months count as 30 days, and days as 24 hours.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalLength {
    signature: Signature,
}

fn length_in_nanos(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * i128::from(DAYS_PER_MONTH) + i128::from(interval.days);
    days * NANOS_PER_DAY + i128::from(interval.nanoseconds)
}

impl ScalarUDFImpl for IntervalLength {
    fn name(&self) -> &str {
        "interval_length"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(LENGTH)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(field_like_arguments(self.name(), LENGTH, &args))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        map_arrays(&call, |arrays| {
            let [intervals] = arrays else {
                return internal_err!("expected exactly one argument");
            };
            let intervals = cast(intervals, &INTERVAL)?;
            let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
            let lengths: Decimal128Array = intervals.unary(length_in_nanos);
            Ok(Arc::new(lengths.with_precision_and_scale(38, 0)?))
        })
    }
}

/// Returns a field that is nullable if an argument is. The rule of the analyzer must not change whether a column is.
fn field_like_arguments(name: &str, kind: DataType, args: &ReturnFieldArgs<'_>) -> FieldRef {
    let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
    Arc::new(Field::new(name, kind, is_nullable))
}

/// Applies a function of arrays to the arguments of a call.
fn map_arrays(
    call: &ScalarFunctionArgs,
    convert: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let is_one = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
    let converted = convert(&ColumnarValue::values_to_arrays(&call.args)?)?;
    Ok(match call.args.iter().all(is_one) {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&converted, 0)?),
        false => ColumnarValue::Array(converted),
    })
}

/// The sum or the difference of an instant and an interval: months and days in local time, and the rest as elapsed time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AddInterval {
    zone: Arc<str>,
    kind: DataType,
    is_subtracted: bool,
    signature: Signature,
}

impl AddInterval {
    fn add<T: ArrowTimestampType>(
        &self,
        times: &ArrayRef,
        intervals: &ArrayRef,
    ) -> Result<ArrayRef> {
        let zone = zone_from_name(&self.zone)?;
        let times = cast(times, &DataType::Timestamp(T::UNIT, None))?;
        let intervals = cast(intervals, &INTERVAL)?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>().iter();
        let sums = times.as_primitive::<T>().iter().zip(intervals);
        let sums = sums.map(|(time, interval)| {
            let (Some(time), Some(interval)) = (time, interval) else {
                return Ok(None);
            };
            let sum = as_datetime::<T>(time)
                .and_then(|time| add_interval(time, interval, self.is_subtracted, &zone))
                .and_then(|time| T::from_naive_datetime(time, None));
            sum.map(Some).ok_or_else(|| {
                ArrowError::ArithmeticOverflow(
                    "the sum of a time and an interval is out of range".to_owned(),
                )
            })
        });
        let sums: Vec<Option<i64>> = sums.collect::<Result<_, ArrowError>>()?;
        let sums: PrimitiveArray<T> = sums.into_iter().collect();
        let label = match &self.kind {
            DataType::Timestamp(_, label) => label.clone(),
            _ => None,
        };
        Ok(Arc::new(sums.with_timezone_opt(label)))
    }
}

/// Adds or subtracts an interval to the time in UTC; `None` if the result is out of range.
fn add_interval(
    time: NaiveDateTime,
    interval: IntervalMonthDayNano,
    is_subtracted: bool,
    zone: &Tz,
) -> Option<NaiveDateTime> {
    let sign = if is_subtracted { -1 } else { 1 };
    let mut time = time;
    let months = i64::from(interval.months) * sign;
    if months != 0 {
        let local = local_from_utc(time, zone)?;
        let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        let moved = match months > 0 {
            true => local.checked_add_months(count)?,
            false => local.checked_sub_months(count)?,
        };
        time = utc_from_local(moved, zone)?;
    }
    let days = i64::from(interval.days) * sign;
    if days != 0 {
        let moved = local_from_utc(time, zone)?.checked_add_signed(TimeDelta::try_days(days)?)?;
        time = utc_from_local(moved, zone)?;
    }
    let elapsed = TimeDelta::nanoseconds(interval.nanoseconds);
    match is_subtracted {
        true => time.checked_sub_signed(elapsed),
        false => time.checked_add_signed(elapsed),
    }
}

impl ScalarUDFImpl for AddInterval {
    fn name(&self) -> &str {
        "add_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(field_like_arguments(self.name(), self.kind.clone(), &args))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        map_arrays(&call, |arrays| {
            let ([times, intervals], DataType::Timestamp(unit, _)) = (arrays, &self.kind) else {
                return internal_err!("an interval is added to a timestamp");
            };
            match unit {
                TimeUnit::Second => self.add::<TimestampSecondType>(times, intervals),
                TimeUnit::Millisecond => self.add::<TimestampMillisecondType>(times, intervals),
                TimeUnit::Microsecond => self.add::<TimestampMicrosecondType>(times, intervals),
                TimeUnit::Nanosecond => self.add::<TimestampNanosecondType>(times, intervals),
            }
        })
    }
}

/// Plans products and quotients of intervals and numbers, which DataFusion does not have.
#[derive(Debug)]
pub(in crate::engine) struct IntervalPlanner;

impl ExprPlanner for IntervalPlanner {
    fn plan_binary_op(
        &self,
        expression: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_division = match expression.op {
            BinaryOperator::Multiply => false,
            BinaryOperator::Divide => true,
            BinaryOperator::Minus => return planned_difference(expression, schema),
            _ => return Ok(PlannerResult::Original(expression)),
        };
        let is_interval = |side: &Expr| may_be_interval(side) && is_duration(side, schema);
        let is_first = is_interval(&expression.left);
        if !is_first && (is_division || !is_interval(&expression.right)) {
            return Ok(PlannerResult::Original(expression));
        }
        let (interval, factor) = match is_first {
            true => (expression.left, expression.right),
            false => (expression.right, expression.left),
        };
        let factor_kind = factor.get_type(schema);
        if factor_kind.is_ok_and(|kind| !kind.is_numeric() && kind != DataType::Null) {
            return datafusion::common::plan_err!(
                "an interval can be multiplied and divided by a number only"
            );
        }
        // As in Postgres, a difference of times has days.
        let interval = match interval.get_type(schema)? {
            DataType::Duration(_) => days_and_time(interval),
            _ => interval,
        };
        let function = ScaleInterval {
            is_division,
            signature: Signature::user_defined(Volatility::Immutable),
        };
        Ok(PlannerResult::Planned(call(
            function,
            vec![interval, factor],
        )))
    }
}

/// Gives the local time of a date the zone of an instant from which it is subtracted, or which is subtracted from it.
/// DataFusion would subtract the local times.
fn planned_difference(
    mut expression: RawBinaryExpr,
    schema: &DFSchema,
) -> Result<PlannerResult<RawBinaryExpr>> {
    // The right side is the shallow one in a long difference.
    let instant = |side: &Expr| match side.get_type(schema) {
        Ok(DataType::Timestamp(_, Some(label))) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, Some(label)))
        }
        _ => None,
    };
    let is_date = |side: &Expr| {
        side.get_type(schema)
            .is_ok_and(|kind| kind == DataType::Date32)
    };
    let at_start = |date: Expr, kind| Expr::Cast(Cast::new(Box::new(date), kind));
    if is_date(&expression.right) {
        if let Some(kind) = instant(&expression.left) {
            expression.right = at_start(expression.right, kind);
        }
    } else if let Some(kind) = instant(&expression.right)
        && is_date(&expression.left)
    {
        expression.left = at_start(expression.left, kind);
    }
    Ok(PlannerResult::Original(expression))
}

/// Whether the expression may be an interval, by its form: the types of all factors of a long product need not be found.
fn may_be_interval(side: &Expr) -> bool {
    match side {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => matches!(op, Operator::Plus | Operator::Minus),
        Expr::Literal(value, _) => !value.data_type().is_numeric(),
        _ => true,
    }
}

fn is_duration(side: &Expr, schema: &DFSchema) -> bool {
    let kind = side.get_type(schema);
    kind.is_ok_and(|kind| matches!(kind, DataType::Interval(_) | DataType::Duration(_)))
}

/// The product or the quotient of an interval and a number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ScaleInterval {
    is_division: bool,
    signature: Signature,
}

impl ScalarUDFImpl for ScaleInterval {
    fn name(&self) -> &str {
        match self.is_division {
            true => "interval_divide",
            false => "interval_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        let is_whole = !self.is_division && kinds.get(1).is_some_and(DataType::is_signed_integer);
        Ok(vec![
            INTERVAL,
            match is_whole {
                true => DataType::Int64,
                false => DataType::Float64,
            },
        ])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        map_arrays(&call, |arrays| {
            let [intervals, factors] = arrays else {
                return internal_err!("expected exactly two arguments");
            };
            let intervals = cast(intervals, &INTERVAL)?;
            let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
            let scaled: Vec<Option<IntervalMonthDayNano>> = match factors.data_type() {
                DataType::Int64 => {
                    let pairs = intervals.iter().zip(factors.as_primitive::<Int64Type>());
                    let pairs = pairs.map(|(interval, factor)| match (interval, factor) {
                        (Some(interval), Some(factor)) => multiplied(interval, factor).map(Some),
                        _ => Ok(None),
                    });
                    pairs.collect::<Result<_, ArrowError>>()?
                }
                _ => {
                    let factors = cast(factors, &DataType::Float64)?;
                    let pairs = intervals.iter().zip(factors.as_primitive::<Float64Type>());
                    let pairs = pairs.map(|(interval, factor)| match (interval, factor) {
                        (Some(interval), Some(factor)) => self.scaled(interval, factor).map(Some),
                        _ => Ok(None),
                    });
                    pairs.collect::<Result<_, ArrowError>>()?
                }
            };
            let scaled: PrimitiveArray<IntervalMonthDayNanoType> = scaled.into_iter().collect();
            Ok(Arc::new(scaled))
        })
    }
}

fn out_of_range() -> ArrowError {
    ArrowError::ArithmeticOverflow("an interval is out of range".to_owned())
}

fn multiplied(
    interval: IntervalMonthDayNano,
    factor: i64,
) -> Result<IntervalMonthDayNano, ArrowError> {
    let part = |part: i32| {
        let product = i128::from(part) * i128::from(factor);
        i32::try_from(product).map_err(|_| out_of_range())
    };
    let nanos = i128::from(interval.nanoseconds) * i128::from(factor);
    Ok(IntervalMonthDayNano::new(
        part(interval.months)?,
        part(interval.days)?,
        i64::try_from(nanos).map_err(|_| out_of_range())?,
    ))
}

impl ScaleInterval {
    /// Returns the product or the quotient. As in Postgres, fractions of months become days, fractions of days become
    /// time, and the result has microseconds.
    fn scaled(
        &self,
        interval: IntervalMonthDayNano,
        factor: f64,
    ) -> Result<IntervalMonthDayNano, ArrowError> {
        if self.is_division && factor == 0.0 {
            return Err(ArrowError::DivideByZero);
        }
        let scale = |part: f64| match self.is_division {
            true => part / factor,
            false => part * factor,
        };
        // Postgres rounds such remainders to microseconds.
        let rounded = |part: f64| (part * 1e6).round_ties_even() / 1e6;
        let (months, days) = (scale(interval.months.into()), scale(interval.days.into()));
        let days_of_months = rounded((months - months.trunc()) * f64::from(DAYS_PER_MONTH));
        let mut seconds =
            rounded((days - days.trunc() + days_of_months - days_of_months.trunc()) * 86_400.0);
        let mut whole_days = days.trunc();
        if seconds.abs() >= 86_400.0 {
            let more = (seconds / 86_400.0).trunc();
            whole_days += more;
            seconds -= more * 86_400.0;
        }
        whole_days += days_of_months.trunc();
        let micros = (scale(interval.nanoseconds as f64 / 1e3) + seconds * 1e6).round_ties_even();
        let bounded = |part: f64, most: f64| match part.abs() < most {
            true => Ok(part as i64),
            false => Err(out_of_range()),
        };
        let whole = |part: f64| bounded(part, 2_147_483_647.0).map(|part| part as i32);
        Ok(IntervalMonthDayNano::new(
            whole(months.trunc())?,
            whole(whole_days)?,
            bounded(micros, 9_223_372_036_854_775.0)? * 1_000,
        ))
    }
}
