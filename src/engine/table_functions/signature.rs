//! The signature of a table function, and the arguments of a call. They are evaluated while a statement is planned, so
//! they must be constants or parameters. A call with a null argument has a schema, so that statements can be prepared,
//! but it cannot be run.

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::Expr;

/// The maximum number of characters of an argument that an error quotes.
const MAX_QUOTED_CHARS: usize = 24;

/// The signature of a table function.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct FunctionSignature {
    /// The function's name.
    pub name: &'static str,
    /// The names and types of the parameters.
    pub parameters: &'static [(&'static str, ArgumentType)],
    /// The number of required arguments.
    pub required: usize,
    /// An example call, for error messages.
    pub example: &'static str,
}

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum ArgumentType {
    /// A text.
    Text,
    /// A whole number.
    Integer,
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Argument<T> {
    /// The argument is omitted.
    Absent,
    /// The argument is null, or a parameter without a value.
    Unbound,
    /// The argument has this value.
    Given(T),
}

impl ArgumentType {
    /// Returns the type of a parameter in such an argument.
    pub const fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
        }
    }
}

/// Returns an argument as an error quotes it: its beginning, if it is long.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", truncated(text))
}

fn truncated(text: &str) -> String {
    let rest = text.char_indices().nth(MAX_QUOTED_CHARS);
    let (start, more) = match rest {
        Some((at, _)) => (text.get(..at).unwrap_or_default(), "…"),
        None => (text, ""),
    };
    format!("{}{more}", start.escape_debug())
}

impl FunctionSignature {
    /// Returns the name and the parameters, as the documentation writes them: `neighbours(asset [, hops])`.
    pub fn syntax(&self) -> String {
        let parameters = self.parameters.iter().enumerate().map(|(at, (name, _))| {
            match (at, at < self.required) {
                (0, true) => (*name).to_owned(),
                (_, true) => format!(", {name}"),
                (0, false) => format!("[{name}]"),
                (_, false) => format!(" [, {name}]"),
            }
        });
        format!("{}({})", self.name, parameters.collect::<String>())
    }

    /// Returns an error about a call of the function.
    pub fn error(&self, what: impl std::fmt::Display) -> DataFusionError {
        DataFusionError::Plan(format!("{}: {what}", self.name))
    }

    /// Returns an error if there are too few or too many arguments.
    pub fn check_count(&self, arguments: &[Expr]) -> Result<()> {
        let most = self.parameters.len();
        if (self.required..=most).contains(&arguments.len()) {
            return Ok(());
        }
        let wanted = match self.required {
            1 if most == 1 => "1 argument".to_owned(),
            needs if needs == most => format!("{needs} arguments"),
            needs => format!("{needs} to {most} arguments"),
        };
        Err(self.error(format_args!(
            "expected {wanted}, not {}; example: {}",
            arguments.len(),
            self.example
        )))
    }

    /// Returns the text argument at index `at`, counted from 0.
    pub fn text(&self, arguments: &[Expr], at: usize) -> Result<Argument<String>> {
        self.read(arguments, at, "a text in quotes", |value| {
            value.try_as_str().flatten().map(str::to_owned)
        })
    }

    /// Returns the integer argument at index `at`, counted from 0.
    pub fn integer(&self, arguments: &[Expr], at: usize) -> Result<Argument<i64>> {
        self.read(arguments, at, "a whole number", |value| {
            let is_whole = value.data_type().is_integer();
            let value = is_whole.then(|| value.cast_to(&DataType::Int64));
            match value {
                Some(Ok(ScalarValue::Int64(value))) => value,
                _ => None,
            }
        })
    }

    fn read<T>(
        &self,
        arguments: &[Expr],
        at: usize,
        wanted: &str,
        convert: impl FnOnce(&ScalarValue) -> Option<T>,
    ) -> Result<Argument<T>> {
        let wrong = |what: &dyn std::fmt::Display| {
            self.error(format_args!(
                "argument {} must be {wanted}, not {what}; example: {}",
                at + 1,
                self.example
            ))
        };
        match arguments.get(at) {
            None => Ok(Argument::Absent),
            Some(Expr::Literal(value, _)) if value.is_null() => Ok(Argument::Unbound),
            Some(Expr::Literal(value, _)) => match convert(value) {
                Some(value) => Ok(Argument::Given(value)),
                None => Err(wrong(&match value.try_as_str().flatten() {
                    Some(text) => quoted(text),
                    None => truncated(&value.to_string()),
                })),
            },
            // The value of a column is not known during planning.
            Some(_) => Err(wrong(&"a non-constant expression")),
        }
    }

    /// Returns the value of an argument when the call is run; `None` if it is omitted.
    ///
    /// # Errors
    /// If the argument is null, or a parameter without a value.
    pub fn value<T: Clone>(&self, argument: &Argument<T>) -> Result<Option<T>> {
        match argument {
            Argument::Absent => Ok(None),
            Argument::Given(value) => Ok(Some(value.clone())),
            Argument::Unbound => Err(self.unbound_error()),
        }
    }

    /// Returns the error of a call that is run without a value for an argument.
    pub fn unbound_error(&self) -> DataFusionError {
        self.error(format_args!(
            "an argument is null or a parameter without a value; example: {}",
            self.example
        ))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;
    use crate::engine::table_functions::neighbours::NEIGHBOURS;

    #[test]
    fn syntax_marks_optional_parameters() {
        let mut signature = FunctionSignature {
            name: "f",
            parameters: &[("a", ArgumentType::Text), ("b", ArgumentType::Integer)],
            required: 2,
            example: "f('x', 1)",
        };
        assert_eq!(signature.syntax(), "f(a, b)");
        signature.required = 1;
        assert_eq!(signature.syntax(), "f(a [, b])");
        signature.required = 0;
        assert_eq!(signature.syntax(), "f([a] [, b])");
        signature.parameters = &[];
        assert_eq!(signature.syntax(), "f()");
    }

    #[test]
    fn long_argument_is_quoted_truncated() {
        let long = lit("7 ".repeat(5_000));
        let error = NEIGHBOURS
            .signature
            .integer(&[long], 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"7 7 ") && error.contains("…\""), "{error}");
        assert!(error.len() < 200, "{error}");
        assert_eq!(quoted("a\"b"), r#""a\"b""#);
    }

    #[test]
    fn arguments_of_the_wrong_type_are_rejected() {
        let form = &NEIGHBOURS.signature;
        let null = lit(ScalarValue::Utf8(None));
        for wrong in [lit(101), col("id"), lit(true)] {
            let error = form.text(&[wrong], 0).unwrap_err().to_string();
            assert!(
                error.contains("must be a text in quotes, not ")
                    && error.contains("; example: neighbours("),
                "{error}"
            );
        }
        for wrong in [lit("2"), lit(2.5), col("id")] {
            let error = form.integer(&[wrong], 0).unwrap_err().to_string();
            assert!(error.contains("must be a whole number, not "), "{error}");
        }
        assert_eq!(
            form.text(&[lit("a")], 0).unwrap(),
            Argument::Given("a".to_owned())
        );
        assert_eq!(form.integer(&[lit(7_u8)], 0).unwrap(), Argument::Given(7));
        assert_eq!(
            form.integer(std::slice::from_ref(&null), 1).unwrap(),
            Argument::Absent
        );
        let open = form.text(&[null], 0).unwrap();
        assert_eq!(open, Argument::Unbound);
        let error = form.value(&open).unwrap_err().to_string();
        assert!(error.contains("neighbours: an argument is null"), "{error}");
        assert!(form.check_count(&[]).is_err() && form.check_count(&[lit("a")]).is_ok());
    }
}
