//! `LIKE … ESCAPE` and `SIMILAR TO`. The planner reads only the backslash as the escape character of the one, and takes
//! the pattern of the other for a regular expression.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, ValueWithSpan};

use super::template::{call, literal_text, text};
use crate::engine::functions::text_patterns::{
    LIKE_PATTERN, SIMILAR_PATTERN, like_pattern, similar_pattern,
};
use crate::engine::query_error::QueryError;

/// The escape character unless another one is given.
const BACKSLASH: &str = "\\";

/// Rewrites an expression of one of these operators.
pub(super) fn rewrite_pattern(expression: &mut Expr) -> Result<(), QueryError> {
    match expression {
        Expr::Like {
            pattern,
            escape_char,
            ..
        }
        | Expr::ILike {
            pattern,
            escape_char,
            ..
        } => {
            let Some(escape) = escape_char.take() else {
                return Ok(());
            };
            let escape = escape_text(&escape)?;
            if escape != BACKSLASH {
                **pattern = converted(pattern, LIKE_PATTERN, &escape, like_pattern)?;
            }
            Ok(())
        }
        Expr::SimilarTo {
            negated,
            expr,
            pattern,
            escape_char,
        } => {
            let escape = match escape_char {
                Some(escape) => escape_text(escape)?,
                None => BACKSLASH.to_owned(),
            };
            let pattern = converted(pattern, SIMILAR_PATTERN, &escape, similar_pattern)?;
            let left = std::mem::replace(&mut **expr, Expr::Tuple(Vec::new()));
            let matched = Expr::BinaryOp {
                left: Box::new(left),
                op: match negated {
                    true => BinaryOperator::PGRegexNotMatch,
                    false => BinaryOperator::PGRegexMatch,
                },
                right: Box::new(pattern),
            };
            *expression = Expr::Nested(Box::new(matched));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns the escape character; an empty text if there is none.
fn escape_text(escape: &ValueWithSpan) -> Result<String, QueryError> {
    match &escape.value {
        Value::SingleQuotedString(text) if text.chars().count() <= 1 => Ok(text.clone()),
        other => Err(QueryError::Unsupported {
            what: format!("ESCAPE {other}").into(),
            remedy: "give one character in quotes, or '' for none".into(),
        }),
    }
}

/// Returns the pattern in the form that the planner reads: computed here if it is a literal, and by a function if not.
fn converted(
    pattern: &Expr,
    function: &str,
    escape: &str,
    convert: fn(&str, Option<char>) -> Result<String, String>,
) -> Result<Expr, QueryError> {
    let Some(literal) = literal_text(pattern) else {
        return Ok(call(function, vec![pattern.clone(), text(escape)]));
    };
    let converted = convert(literal, escape.chars().next());
    converted
        .map(text)
        .map_err(|reason| QueryError::Unsupported {
            what: format!("the pattern '{literal}'").into(),
            remedy: reason.into(),
        })
}
