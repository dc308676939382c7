//! Expressions that the planner does not support. It would name them by printing their syntax trees.

use datafusion::sql::sqlparser::ast::{CeilFloorKind, DateTimeField, Expr, Interval};

use super::calls::check_call;
use super::refusal::{Checked, refuse, refuse_if};

/// Checks an expression, without its operands.
pub(super) fn check_expression(expression: &Expr) -> Checked {
    match expression {
        Expr::Function(call) => check_call(call),
        Expr::Like { any, .. } | Expr::ILike { any, .. } => {
            refuse_if(*any, "LIKE ANY", "write one LIKE for each pattern, with OR")
        }
        Expr::Cast { array, format, .. } => {
            refuse_if(*array, "CAST to a type with ARRAY", "use arrow_cast")?;
            refuse_if(
                format.is_some(),
                "FORMAT in CAST",
                "use to_char or to_timestamp",
            )
        }
        Expr::Ceil { expr: _, field } | Expr::Floor { expr: _, field } => refuse_if(
            !matches!(
                field,
                CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)
            ),
            "CEIL or FLOOR TO",
            "use date_trunc for times, and round(x, digits) for numbers",
        ),
        Expr::Trim {
            trim_characters, ..
        } => refuse_if(
            trim_characters.as_ref().is_some_and(|list| list.len() > 1),
            "TRIM with more than two arguments",
            "nest the calls",
        ),
        Expr::Interval(Interval {
            value: _,
            leading_field: _,
            leading_precision,
            last_field,
            fractional_seconds_precision,
        }) => refuse_if(
            leading_precision.is_some()
                || last_field.is_some()
                || fractional_seconds_precision.is_some(),
            "INTERVAL with a precision or a second unit",
            "write the units in the text: INTERVAL '1 day 2 hours'",
        ),
        other => check_variant(other),
    }
}

/// Refuses the variants of expressions that the planner does not read.
fn check_variant(expression: &Expr) -> Checked {
    match expression {
        Expr::IsNormalized { .. } => refuse("IS NORMALIZED", "compare in the client"),
        Expr::InUnnest { .. } => refuse("IN UNNEST", "use = ANY (…)"),
        Expr::RLike { .. } => refuse("RLIKE or REGEXP", "use the operator ~"),
        Expr::Convert { .. } => refuse("CONVERT", "use CAST(… AS …)"),
        Expr::Collate { .. } => refuse(
            "COLLATE",
            "leave it out: texts are compared by their code points; lower(…) ignores case",
        ),
        Expr::Prefixed { prefix, value: _ } => refuse(
            format!("a literal with the prefix {prefix}"),
            "write the text without it",
        ),
        Expr::Named { .. } => refuse("a named expression", "use named_struct"),
        Expr::MatchAgainst { .. } => refuse("MATCH … AGAINST", "use the table function search"),
        Expr::OuterJoin(_) => refuse("the operator (+)", "use LEFT JOIN"),
        Expr::Prior(_) => refuse("PRIOR", "use WITH RECURSIVE"),
        Expr::MemberOf(_) => refuse("MEMBER OF", "use = ANY (…)"),
        Expr::Function(_)
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::Cast { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Trim { .. }
        | Expr::Interval(_)
        | Expr::TypedString(_)
        | Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::CompoundFieldAccess { .. }
        | Expr::JsonAccess { .. }
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::BinaryOp { .. }
        | Expr::SimilarTo { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::AtTimeZone { .. }
        | Expr::Extract { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Overlay { .. }
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_)
        | Expr::Tuple(_)
        | Expr::Struct { .. }
        | Expr::Dictionary(_)
        | Expr::Map(_)
        | Expr::Array(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..)
        | Expr::Lambda(_) => Ok(()),
    }
}
