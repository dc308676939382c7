//! `SIMILAR TO`: translates its patterns to regular expressions. DataFusion takes the pattern for a regular expression, and
//! searches for it anywhere in the text (apache/datafusion#22247).

use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::engine::limits::cancellation::check_interruption;

/// Returns the pattern of `SIMILAR TO` as a regular expression.
pub(super) fn regular_expression(pattern: Expr) -> Expr {
    if let Expr::Literal(ScalarValue::Utf8(text), metadata) = pattern {
        let text = text.map(|text| translate(&text));
        return Expr::Literal(ScalarValue::Utf8(text), metadata);
    }
    let function = SimilarPattern {
        signature: Signature::any(1, Volatility::Immutable),
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::new(ScalarUDF::from(function)),
        vec![pattern],
    ))
}

/// Translates a pattern: `%` is any text, `_` any character, a backslash makes the next character an ordinary one. The others
/// that have a meaning are `| * + ? { } ( ) [ ]`.
fn translate(pattern: &str) -> String {
    let mut expression = String::with_capacity(pattern.len() + 16);
    // The whole text must match, and `.` matches a line break, too.
    expression.push_str(r"\A(?s:");
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '%' => expression.push_str(".*"),
            '_' => expression.push('.'),
            '(' => expression.push_str("(?:"),
            '|' | '*' | '+' | '?' | '{' | '}' | ')' => expression.push(character),
            '[' => translate_set(&mut rest, &mut expression),
            '\\' => push_ordinary(rest.next().unwrap_or('\\'), &mut expression),
            ordinary => push_ordinary(ordinary, &mut expression),
        }
    }
    expression.push_str(r")\z");
    expression
}

/// Translates a set of characters after its opening bracket.
fn translate_set(rest: &mut Peekable<Chars>, expression: &mut String) {
    expression.push('[');
    if rest.next_if_eq(&'^').is_some() {
        expression.push('^');
    }
    if rest.next_if_eq(&']').is_some() {
        expression.push_str(r"\]");
    }
    while let Some(character) = rest.next() {
        match character {
            ']' => {
                expression.push(']');
                return;
            }
            // A class such as `[:digit:]`.
            '[' if rest.peek() == Some(&':') => {
                expression.push('[');
                for character in rest.by_ref() {
                    expression.push(character);
                    if character == ']' {
                        break;
                    }
                }
            }
            '\\' => push_ordinary(rest.next().unwrap_or('\\'), expression),
            '-' => expression.push('-'),
            ordinary => push_ordinary(ordinary, expression),
        }
    }
}

/// Adds a character that stands for itself.
fn push_ordinary(character: char, expression: &mut String) {
    if character.is_ascii_punctuation() {
        expression.push('\\');
    }
    expression.push(character);
}

/// Translates the patterns of a column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SimilarPattern {
    signature: Signature,
}

impl ScalarUDFImpl for SimilarPattern {
    fn name(&self) -> &str {
        "similar_pattern"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check_interruption()?;
        let translated = |patterns: ArrayRef| -> Result<ArrayRef> {
            let patterns = cast(&patterns, &DataType::Utf8)?;
            let patterns = patterns.as_string::<i32>().iter();
            let translated: StringArray = patterns.map(|text| text.map(translate)).collect();
            Ok(Arc::new(translated))
        };
        match call.args.first() {
            Some(ColumnarValue::Array(patterns)) => {
                Ok(ColumnarValue::Array(translated(Arc::clone(patterns))?))
            }
            Some(ColumnarValue::Scalar(pattern)) => {
                let translated = translated(pattern.to_array()?)?;
                let translated = ScalarValue::try_from_array(&translated, 0)?;
                Ok(ColumnarValue::Scalar(translated))
            }
            None => internal_err!("expected one pattern"),
        }
    }
}
