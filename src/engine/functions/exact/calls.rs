//! Calls with wrong results, and the expressions that replace them.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::math;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, WindowFunctionDefinition, lit, when};

use super::kinds::{refuse_intervals, type_of};
use super::monotonicity::with_derived_order;
use super::operators::Exact;
use super::zeros::{distinct_with_one_zero, has_keys, null_if_equal, window_with_one_zero};

/// Whether the call may have to be replaced. The types of its arguments decide that.
pub(super) fn is_replaced_call(part: &Expr) -> bool {
    match part {
        Expr::ScalarFunction(call) => match call.name() {
            "round" | "trunc" => call.args.len() == 2,
            "log" | "lpad" | "rpad" | "date_trunc" | "date_part" | "greatest" | "least"
            | "nullif" => true,
            _ => false,
        },
        Expr::AggregateFunction(call) => call.params.distinct || is_extreme(call.func.name()),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => {
                has_keys(call) || is_extreme(function.name())
            }
            WindowFunctionDefinition::WindowUDF(_) => has_keys(call),
        },
        _ => false,
    }
}

fn is_extreme(name: &str) -> bool {
    matches!(name, "min" | "max")
}

/// Returns the expression that replaces the call; `None` if its result is right.
///
/// # Errors
/// A plan error if there is no right result; it says what to use instead.
pub(super) fn replace_call(part: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let call = match part {
        Expr::ScalarFunction(call) => call,
        Expr::AggregateFunction(call) => {
            if is_extreme(call.func.name()) {
                refuse_intervals(call.func.name(), &call.params.args, schema)?;
            }
            return Ok(distinct_with_one_zero(call, schema));
        }
        Expr::WindowFunction(call) => {
            if is_extreme(call.fun.name()) {
                refuse_intervals(call.fun.name(), &call.params.args, schema)?;
            }
            return Ok(window_with_one_zero(call, schema));
        }
        _ => return Ok(None),
    };
    Ok(match (call.name(), &*call.args) {
        (name @ ("greatest" | "least"), arguments) => {
            refuse_intervals(name, arguments, schema)?;
            None
        }
        ("round" | "trunc", [value, places]) => {
            let is_double = type_of(value, schema) == Some(DataType::Float64);
            let arguments = || vec![value.clone(), places.clone(), part.clone()];
            is_double.then(|| Exact::Rounded.call(arguments()))
        }
        ("nullif", _) => null_if_equal(call, schema)?,
        ("log", [value]) => logarithm(10.0, value, schema),
        ("log", [Expr::Literal(base, _), value]) => match base.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(Some(base))) => logarithm(base, value, schema),
            _ => None,
        },
        ("lpad" | "rpad", [_, length, ..]) => without_negative(length, schema)?.map(|length| {
            let mut padded = call.clone();
            if let Some(argument) = padded.args.get_mut(1) {
                *argument = length;
            }
            Expr::ScalarFunction(padded)
        }),
        ("date_trunc", [unit, time]) => truncated_time(part, unit, time, schema)?,
        ("date_part", [unit, time]) => match type_of(time, schema) {
            // DataFusion gives the hours, minutes or seconds of the whole duration.
            Some(DataType::Duration(_)) => {
                let span = Exact::DaysAndTime.call(vec![time.clone()]);
                Some(Expr::ScalarFunction(ScalarFunction::new_udf(
                    std::sync::Arc::clone(&call.func),
                    vec![unit.clone(), span],
                )))
            }
            _ => None,
        },
        _ => None,
    })
}

/// Returns the logarithm of a double with the base 2 or 10, for which there are precise functions: DataFusion's `log(1000)` is
/// 2.9999999999999996. `None` for other bases and types.
fn logarithm(base: f64, value: &Expr, schema: &DFSchema) -> Option<Expr> {
    let function = match base {
        2.0 => math::log2(),
        10.0 => math::log10(),
        _ => return None,
    };
    let is_double = type_of(value, schema) == Some(DataType::Float64);
    let function = with_derived_order(function);
    let call = || ScalarFunction::new_udf(function, vec![value.clone()]);
    is_double.then(|| Expr::ScalarFunction(call()))
}

/// Returns the length with 0 instead of negative lengths, which DataFusion takes for huge ones in columns; `None` if it is not
/// negative.
fn without_negative(length: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    Ok(match length {
        Expr::Literal(ScalarValue::Int64(Some(length)), _) => (*length < 0).then(|| lit(0_i64)),
        Expr::Literal(..) | Expr::Case(_) => None,
        length if type_of(length, schema) == Some(DataType::Int64) => {
            let is_negative = length.clone().lt(lit(0_i64));
            Some(when(is_negative, lit(0_i64)).otherwise(length.clone())?)
        }
        _ => None,
    })
}

/// Returns the truncated time, corrected where DataFusion truncates times before 1970 to a later millisecond or microsecond.
fn truncated_time(
    part: &Expr,
    unit: &Expr,
    time: &Expr,
    schema: &DFSchema,
) -> Result<Option<Expr>> {
    let Expr::Literal(unit, _) = unit else {
        return Ok(None);
    };
    let nanoseconds = match unit
        .try_as_str()
        .flatten()
        .map(str::to_lowercase)
        .as_deref()
    {
        Some("millisecond") => 1_000_000,
        Some("microsecond") => 1_000,
        _ => return Ok(None),
    };
    match type_of(time, schema) {
        Some(DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)) => {
            let step = IntervalMonthDayNano::new(0, 0, nanoseconds);
            let step = lit(ScalarValue::IntervalMonthDayNano(Some(step)));
            let is_later = part.clone().gt(time.clone());
            let corrected = when(is_later, part.clone() - step).otherwise(part.clone())?;
            Ok(Some(corrected))
        }
        _ => Ok(None),
    }
}
