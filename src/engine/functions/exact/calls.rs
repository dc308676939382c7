//! Calls with wrong results, and the expressions that replace them.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::math;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, WindowFunctionDefinition, lit, when};

use super::equality::{aggregate_in_one_form, has_keys, null_if_equal, window_in_one_form};
use super::extremes::comparable_arguments;
use super::kinds::type_of;
use super::lists::{compares_elements, search_lists};
use super::monotonicity::with_derived_order;
use super::operators::Exact;

/// Whether the call may have to be replaced. The types of its arguments decide that.
pub(super) fn is_replaced_call(part: &Expr) -> bool {
    match part {
        Expr::ScalarFunction(call) => match call.name() {
            "round" | "trunc" => call.args.len() == 2,
            "log" | "lpad" | "rpad" | "date_trunc" | "date_part" | "greatest" | "least"
            | "nullif" => true,
            name => compares_elements(name),
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

/// Replaces the arguments by comparable ones, and returns whether they changed.
fn make_comparable(name: &str, arguments: &mut Vec<Expr>, schema: &DFSchema) -> Result<bool> {
    let comparable = comparable_arguments(name, arguments, schema)?;
    Ok(match comparable {
        Some(comparable) => {
            *arguments = comparable;
            true
        }
        None => false,
    })
}

/// Returns the expression that replaces the call; `None` if its result is right.
///
/// # Errors
/// A plan error if there is no right result; it says what to use instead.
pub(super) fn replace_call(part: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let call = match part {
        Expr::ScalarFunction(call) => call,
        Expr::AggregateFunction(call) => {
            let mut call = call.clone();
            let is_comparable = is_extreme(call.func.name())
                && make_comparable(call.func.name(), &mut call.params.args, schema)?;
            let one_form = aggregate_in_one_form(&call, schema);
            return Ok(one_form.or(is_comparable.then(|| Expr::AggregateFunction(call))));
        }
        Expr::WindowFunction(call) => {
            let mut call = call.clone();
            let name = call.fun.name().to_owned();
            let is_comparable =
                is_extreme(&name) && make_comparable(&name, &mut call.params.args, schema)?;
            let one_form = window_in_one_form(&call, schema);
            return Ok(one_form.or(is_comparable.then(|| Expr::WindowFunction(call))));
        }
        _ => return Ok(None),
    };
    if compares_elements(call.name()) {
        return search_lists(call, schema);
    }
    Ok(match (call.name(), &*call.args) {
        (name @ ("greatest" | "least"), _) => {
            let mut call = call.clone();
            make_comparable(name, &mut call.args, schema)?
                .then(|| Expr::ScalarFunction(call.clone()))
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
