//! Comparisons of the day of a time with a constant, such as `CAST(timestamp AS DATE) = DATE '2024-01-01'`, as comparisons of
//! the time itself. DataFusion takes such a time for the start of that day: it then drops an `ORDER BY` of the time. The
//! comparison of the time also prunes files.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator, lit};

use super::kinds::type_of;

const SECONDS_PER_DAY: i64 = 86_400;

/// Whether the operands may be a day of a time and a constant.
pub(super) fn may_compare_days(left: &Expr, right: &Expr) -> bool {
    day_of(left).is_some() != day_of(right).is_some()
}

/// Returns the comparison of the time; `None` if the expression compares no day of a time with a constant.
pub(super) fn compare_day(operation: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let BinaryExpr { left, op, right } = operation;
    let (time, constant, op) = match (day_of(left), day_of(right)) {
        (Some(time), None) => (time, right, *op),
        (None, Some(time)) => (time, left, op.swap()?),
        _ => return None,
    };
    let kind = type_of(time, schema)?;
    let day = constant_day(constant)?;
    let start = lit(start_of(day, &kind)?);
    let end = lit(start_of(day.checked_add(1)?, &kind)?);
    let time = || time.clone();
    Some(match op {
        Operator::Eq => time().gt_eq(start).and(time().lt(end)),
        Operator::NotEq => time().lt(start).or(time().gt_eq(end)),
        Operator::Lt => time().lt(start),
        Operator::LtEq => time().lt(end),
        Operator::Gt => time().gt_eq(end),
        Operator::GtEq => time().gt_eq(start),
        _ => return None,
    })
}

/// Returns the time whose day the expression is.
fn day_of(expression: &Expr) -> Option<&Expr> {
    match expression {
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Date32 => match &**expr
        {
            Expr::Literal(..) => None,
            time if time.is_volatile() => None,
            time => Some(time),
        },
        _ => None,
    }
}

/// Returns the days since 1970 of a constant date, or of a text that is one.
fn constant_day(expression: &Expr) -> Option<i32> {
    let value = match expression {
        Expr::Literal(value, _) => value.clone(),
        Expr::Cast(Cast { expr, field }) => match &**expr {
            Expr::Literal(value, _) => value.cast_to(field.data_type()).ok()?,
            _ => return None,
        },
        _ => return None,
    };
    match value {
        ScalarValue::Date32(day) => day,
        _ => None,
    }
}

/// Returns the start of the day as a time of this type; `None` if that is out of range, or if the type's days are not those of
/// UTC.
fn start_of(day: i32, kind: &DataType) -> Option<ScalarValue> {
    let DataType::Timestamp(unit, zone) = kind else {
        return None;
    };
    if zone.as_deref().is_some_and(|zone| zone != "UTC") {
        return None;
    }
    let seconds = i64::from(day) * SECONDS_PER_DAY;
    let zone = zone.clone();
    Some(match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(seconds), zone),
        TimeUnit::Millisecond => {
            ScalarValue::TimestampMillisecond(Some(seconds.checked_mul(1_000)?), zone)
        }
        TimeUnit::Microsecond => {
            ScalarValue::TimestampMicrosecond(Some(seconds.checked_mul(1_000_000)?), zone)
        }
        TimeUnit::Nanosecond => {
            ScalarValue::TimestampNanosecond(Some(seconds.checked_mul(1_000_000_000)?), zone)
        }
    })
}
