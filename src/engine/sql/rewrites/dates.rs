//! Differences and sums of times with a unit: `date_diff`, `datediff` and `dateadd`.

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator, Value};

use super::template::{expand, literal_text};
use crate::engine::query_error::QueryError;

/// Units of a fixed length, with it in seconds.
const FIXED_UNITS: &[(&str, u32)] = &[
    ("second", 1),
    ("minute", 60),
    ("hour", 3_600),
    ("day", 86_400),
    ("week", 604_800),
];

/// Units that `INTERVAL` has.
const UNITS: [&str; 8] = [
    "second", "minute", "hour", "day", "week", "month", "quarter", "year",
];

pub(super) fn is_date_function(name: &str) -> bool {
    matches!(name, "date_diff" | "datediff" | "dateadd")
}

/// Rewrites a call; returns `None` if the function has no such arguments.
pub(super) fn rewrite(name: &str, arguments: &[Expr]) -> Result<Option<Expr>, QueryError> {
    match (name, arguments) {
        // As in MySQL: the days from the second to the first.
        ("datediff", [end, start]) => boundaries("day", start, end).map(Some),
        ("date_diff" | "datediff", [unit, start, end]) => {
            boundaries(unit_name(unit)?, start, end).map(Some)
        }
        ("dateadd", [unit, count, time]) => add(unit_name(unit)?, count, time).map(Some),
        _ => Ok(None),
    }
}

/// Returns the name of a unit that is written as a text or a name, also as in ODBC: `SQL_TSI_DAY`.
pub(super) fn unit_name(unit: &Expr) -> Result<&'static str, QueryError> {
    let written = match unit {
        Expr::Identifier(name) => Some(name.value.as_str()),
        other => literal_text(other),
    };
    let lower = written.unwrap_or_default().to_lowercase();
    let name = lower.strip_prefix("sql_tsi_").unwrap_or(&lower);
    let name = name.strip_suffix('s').unwrap_or(name);
    let found = UNITS.into_iter().find(|known| *known == name);
    found.ok_or_else(|| QueryError::Unsupported {
        what: format!("the unit {unit}").into(),
        remedy: "use 'second', 'minute', 'hour', 'day', 'week', 'month', 'quarter' or 'year'"
            .into(),
    })
}

/// Returns the number of boundaries of the unit between two times, as DuckDB and SQL Server count them. A week is seven
/// boundaries of days, as in DuckDB since 2.0.
fn boundaries(unit: &str, start: &Expr, end: &Expr) -> Result<Expr, QueryError> {
    let template = match unit {
        "year" => "(date_part('year', arg2) - date_part('year', arg1))".to_owned(),
        "quarter" | "month" => {
            let in_year = if unit == "month" { 12 } else { 4 };
            format!(
                "((date_part('year', arg2) - date_part('year', arg1)) * {in_year} + date_part('{unit}', arg2) - date_part('{unit}', arg1))"
            )
        }
        "week" => {
            let days = boundaries("day", start, end)?;
            return expand("(arg1 / 7)", &[days]);
        }
        _ => {
            let seconds = seconds(unit);
            format!(
                "CAST((date_part('epoch', date_trunc('{unit}', arg2)) - date_part('epoch', date_trunc('{unit}', arg1))) / {seconds} AS BIGINT)"
            )
        }
    };
    expand(&template, &[start.clone(), end.clone()])
}

/// Returns the number of whole units between two times, as ODBC and MySQL count them.
pub(super) fn elapsed(unit: &str, start: &Expr, end: &Expr) -> Result<Expr, QueryError> {
    if !FIXED_UNITS.iter().any(|(known, _)| *known == unit) {
        return Err(QueryError::Unsupported {
            what: format!("TIMESTAMPDIFF in units of a {unit}").into(),
            remedy: format!(
                "use date_diff('{unit}', start, end), which counts the boundaries between them"
            )
            .into(),
        });
    }
    let seconds = seconds(unit);
    let template = format!(
        "CAST(trunc((date_part('epoch', arg2) - date_part('epoch', arg1)) / {seconds}) AS BIGINT)"
    );
    expand(&template, &[start.clone(), end.clone()])
}

fn seconds(unit: &str) -> u32 {
    let found = FIXED_UNITS.iter().find(|(known, _)| *known == unit);
    found.map_or(1, |(_, seconds)| *seconds)
}

/// Returns the time plus a constant number of units.
pub(super) fn add(unit: &str, count: &Expr, time: &Expr) -> Result<Expr, QueryError> {
    let (sign, number) = match count {
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => ('-', &**expr),
        other => ('+', other),
    };
    let digits = match number {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<u32>().ok()
            }
            _ => None,
        },
        _ => None,
    };
    let Some(digits) = digits else {
        return Err(QueryError::Unsupported {
            what: "a number of units that is no constant integer".into(),
            remedy: "add an interval: timestamp + INTERVAL '1 day'".into(),
        });
    };
    let (unit, digits) = match unit {
        "quarter" => ("month", u64::from(digits) * 3),
        unit => (unit, u64::from(digits)),
    };
    expand(
        &format!("(arg1 {sign} INTERVAL '{digits} {unit}')"),
        std::slice::from_ref(time),
    )
}
