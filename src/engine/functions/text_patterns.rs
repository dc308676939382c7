//! Patterns of `LIKE … ESCAPE` and `SIMILAR TO` in the forms that DataFusion reads: `LIKE` with the backslash, and a regular
//! expression. The functions convert patterns that are no literals.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The name of the function that converts patterns of `LIKE`.
pub(in crate::engine) const LIKE_PATTERN: &str = "like_pattern";
/// The name of the function that converts patterns of `SIMILAR TO`.
pub(in crate::engine) const SIMILAR_PATTERN: &str = "similar_pattern";

/// Returns a pattern of `LIKE` with `escape` as the escape character as one with the backslash.
///
/// # Errors
/// If the pattern ends with the escape character.
pub(in crate::engine) fn like_pattern(
    pattern: &str,
    escape: Option<char>,
) -> Result<String, String> {
    let mut converted = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let (literal, is_escaped) = match Some(character) == escape {
            true => (characters.next().ok_or_else(ends_with_escape)?, true),
            false => (character, false),
        };
        if literal == '\\' || (is_escaped && matches!(literal, '%' | '_')) {
            converted.push('\\');
        }
        converted.push(literal);
    }
    Ok(converted)
}

fn ends_with_escape() -> String {
    "a pattern must not end with the escape character; write it twice to match it".to_owned()
}

/// Returns a pattern of `SIMILAR TO` as a regular expression that matches whole texts, by the rules of Postgres.
///
/// # Errors
/// If the pattern ends with the escape character.
pub(in crate::engine) fn similar_pattern(
    pattern: &str,
    escape: Option<char>,
) -> Result<String, String> {
    let mut regex = String::with_capacity(pattern.len() + 16);
    regex.push_str("^(?s:");
    let mut characters = pattern.chars().peekable();
    let mut class = ClassPosition::Outside;
    while let Some(character) = characters.next() {
        if Some(character) == escape {
            let literal = characters.next().ok_or_else(ends_with_escape)?;
            push_literal(&mut regex, literal);
            if class != ClassPosition::Outside {
                class = ClassPosition::Inside;
            }
            continue;
        }
        if class != ClassPosition::Outside {
            class = push_in_class(
                &mut regex,
                character,
                class,
                characters.peek() == Some(&':'),
            );
            continue;
        }
        match character {
            '[' => {
                regex.push('[');
                class = ClassPosition::Start;
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            '|' | '*' | '+' | '?' | '{' | '}' | ')' => regex.push(character),
            other => push_literal(&mut regex, other),
        }
    }
    regex.push_str(")$");
    Ok(regex)
}

/// A position within a bracket expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClassPosition {
    Outside,
    /// Directly after the bracket, where `^` negates and `]` is a member.
    Start,
    /// After `[^`, where `]` is a member.
    Negated,
    Inside,
    /// Within a named class: `[:alpha:]`.
    Named,
}

/// Adds a character of a bracket expression, and returns the position after it.
fn push_in_class(
    regex: &mut String,
    character: char,
    at: ClassPosition,
    is_before_colon: bool,
) -> ClassPosition {
    match (at, character) {
        (ClassPosition::Start, '^') => {
            regex.push('^');
            ClassPosition::Negated
        }
        (ClassPosition::Inside, ']') => {
            regex.push(']');
            ClassPosition::Outside
        }
        (ClassPosition::Named, _) => {
            regex.push(character);
            match character {
                ']' => ClassPosition::Inside,
                _ => ClassPosition::Named,
            }
        }
        (_, '[') if is_before_colon => {
            regex.push('[');
            ClassPosition::Named
        }
        (ClassPosition::Inside, '-') => {
            regex.push('-');
            ClassPosition::Inside
        }
        _ => {
            push_literal(regex, character);
            ClassPosition::Inside
        }
    }
}

/// Whether the character has a meaning in a regular expression, or in a bracket expression of one.
fn is_special(character: char) -> bool {
    matches!(
        character,
        '\\' | '.'
            | '+'
            | '*'
            | '?'
            | '('
            | ')'
            | '|'
            | '['
            | ']'
            | '{'
            | '}'
            | '^'
            | '$'
            | '#'
            | '&'
            | '-'
            | '~'
    )
}

/// Adds a character that stands for itself. Only what has a meaning is escaped: `\<` would be the start of a word.
fn push_literal(regex: &mut String, character: char) {
    if is_special(character) {
        regex.push('\\');
    }
    regex.push(character);
}

/// Registers the functions with a session.
pub(in crate::engine) fn register(state: &mut SessionState) -> Result<()> {
    for kind in [PatternKind::Like, PatternKind::Similar] {
        let function = PatternFunction {
            kind,
            signature: Signature::string(2, Volatility::Immutable),
        };
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PatternKind {
    Like,
    Similar,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PatternFunction {
    kind: PatternKind,
    signature: Signature,
}

impl PatternFunction {
    fn convert(&self, pattern: Option<&str>, escape: Option<char>) -> Result<Option<String>> {
        let convert = match self.kind {
            PatternKind::Like => like_pattern,
            PatternKind::Similar => similar_pattern,
        };
        let converted = pattern.map(|pattern| convert(pattern, escape)).transpose();
        converted.map_err(DataFusionError::Execution)
    }
}

impl ScalarUDFImpl for PatternFunction {
    fn name(&self) -> &str {
        match self.kind {
            PatternKind::Like => LIKE_PATTERN,
            PatternKind::Similar => SIMILAR_PATTERN,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [pattern, escape] = call.args.as_slice() else {
            return internal_err!("{} takes two arguments", self.name());
        };
        let ColumnarValue::Scalar(escape) = escape else {
            return Err(DataFusionError::Execution(
                "the escape character must be a constant".to_owned(),
            ));
        };
        let Some(escape) = escape.try_as_str().flatten() else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
        };
        let escape = escape.chars().next();
        Ok(match pattern {
            ColumnarValue::Scalar(pattern) => {
                let converted = self.convert(pattern.try_as_str().flatten(), escape)?;
                ColumnarValue::Scalar(ScalarValue::Utf8(converted))
            }
            ColumnarValue::Array(patterns) => {
                let patterns = cast(patterns, &DataType::Utf8)?;
                let patterns: &StringArray = patterns.as_string();
                let converted: StringArray = patterns
                    .iter()
                    .map(|pattern| self.convert(pattern, escape))
                    .collect::<Result<_>>()?;
                ColumnarValue::Array(Arc::new(converted) as ArrayRef)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_pattern_with_another_escape_character_is_converted() {
        for (pattern, escape, expected) in [
            ("%100!%%", Some('!'), r"%100\%%"),
            ("a!!b!_", Some('!'), r"a!b\_"),
            (r"a\b", Some('!'), r"a\\b"),
            (r"a!\b", Some('!'), r"a\\b"),
            (r"a\%", None, r"a\\%"),
            ("a!b", Some('!'), "ab"),
        ] {
            assert_eq!(
                like_pattern(pattern, escape).unwrap(),
                expected,
                "{pattern}"
            );
        }
        like_pattern("a!", Some('!')).unwrap_err();
    }

    #[test]
    fn similar_pattern_matches_as_in_postgres() {
        for (text, pattern, expected) in [
            ("abc", "abc", true),
            ("abc", "a", false),
            ("abc", "%(b|d)%", true),
            ("abc", "(b|c)%", false),
            ("a.c", "a.c", true),
            ("abc", "a.c", false),
            ("abc", "a_c", true),
            ("a\nc", "a_c", true),
            ("aaa", "a{2,3}", true),
            ("a", "[^b]", true),
            ("]", "[]x]", true),
            ("7", "[0-9]", true),
            ("x", "[[:alpha:]]", true),
            ("7", "[[:alpha:]]", false),
            ("a%c", r"a\%c", true),
            ("abc", r"a\%c", false),
            ("^", "[a^]", true),
            ("&", "[&&]", true),
            ("ab", "a|ab", true),
            ("xab", "a|ab", false),
            ("<b>", "<b>", true),
            ("b", "<b>", false),
            ("<", "[<>]", true),
        ] {
            let regex = similar_pattern(pattern, Some('\\')).unwrap();
            let matches = regex::Regex::new(&regex).unwrap().is_match(text);
            assert_eq!(matches, expected, "{text} SIMILAR TO {pattern}: {regex}");
        }
    }
}
