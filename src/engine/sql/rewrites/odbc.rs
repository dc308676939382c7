//! The functions of JDBC's and ODBC's escapes, `{fn …}`, whose definitions differ from those of functions with the same
//! names in SQL, or that SQL does not have.
//!
//! Source: JDBC 4.3, appendix C, and ODBC, appendix E.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, ExactNumberInfo, Expr, TimezoneInfo};

use super::dates::{add, elapsed, unit_name};
use super::template::{expand, find_template};
use crate::engine::query_error::QueryError;

const TEMPLATES: &[(&str, usize, &str)] = &[
    ("char", 1, "chr(arg1)"),
    ("database", 0, "current_database()"),
    ("dayname", 1, "to_char(arg1, '%A')"),
    // From 1 for Sunday.
    ("dayofweek", 1, "(date_part('dow', arg1) + 1)"),
    ("ifnull", 2, "coalesce(arg1, arg2)"),
    ("insert", 4, "overlay(arg1 PLACING arg4 FROM arg2 FOR arg3)"),
    // The natural logarithm; `log` in SQL is the one to the base 10.
    ("log", 1, "ln(arg1)"),
    ("monthname", 1, "to_char(arg1, '%B')"),
    ("space", 1, "repeat(' ', arg1)"),
    ("truncate", 2, "trunc(arg1, arg2)"),
    ("user", 0, "current_user()"),
];

/// Rewrites a call; returns `None` for functions that have the same definition in SQL.
pub(super) fn rewrite(name: &str, arguments: &[Expr]) -> Result<Option<Expr>, QueryError> {
    if let Some(template) = find_template(TEMPLATES, name, arguments.len()) {
        return expand(template, arguments).map(Some);
    }
    match (name, arguments) {
        ("timestampadd", [unit, count, time]) => add(unit_name(unit)?, count, time).map(Some),
        ("timestampdiff", [unit, start, end]) => elapsed(unit_name(unit)?, start, end).map(Some),
        ("convert", [value, kind]) => {
            let data_type = sql_type(kind).ok_or_else(|| QueryError::Unsupported {
                what: format!("the type {kind} in CONVERT").into(),
                remedy: "use CAST(… AS …)".into(),
            })?;
            Ok(Some(Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(value.clone()),
                data_type,
                array: false,
                format: None,
            }))
        }
        ("week", _) => Err(QueryError::Unsupported {
            what: "the function {fn WEEK}".into(),
            remedy: "use date_part('week', timestamp), the week of ISO 8601".into(),
        }),
        _ => Ok(None),
    }
}

/// Returns the type that a name such as `SQL_INTEGER` stands for.
fn sql_type(kind: &Expr) -> Option<DataType> {
    let Expr::Identifier(name) = kind else {
        return None;
    };
    let name = name.value.to_uppercase();
    let name = name.strip_prefix("SQL_").unwrap_or(&name);
    Some(match name {
        "BIT" | "BOOLEAN" => DataType::Boolean,
        "TINYINT" => DataType::TinyInt(None),
        "SMALLINT" => DataType::SmallInt(None),
        "INTEGER" => DataType::Integer(None),
        "BIGINT" => DataType::BigInt(None),
        "REAL" => DataType::Real,
        "FLOAT" | "DOUBLE" => DataType::DoublePrecision,
        "DECIMAL" | "NUMERIC" => DataType::Decimal(ExactNumberInfo::None),
        "CHAR" | "VARCHAR" | "LONGVARCHAR" | "WCHAR" | "WVARCHAR" | "WLONGVARCHAR" => {
            DataType::Varchar(None)
        }
        "DATE" | "TYPE_DATE" => DataType::Date,
        "TIME" | "TYPE_TIME" => DataType::Time(None, TimezoneInfo::None),
        "TIMESTAMP" | "TYPE_TIMESTAMP" => DataType::Timestamp(None, TimezoneInfo::None),
        _ => return None,
    })
}
