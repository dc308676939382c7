//! The arguments of table functions. They are evaluated while a statement is planned, so they must be constants or
//! parameters. Values of parameters are put into the statement before planning; parameters without a value are null. A
//! call with a null argument has a schema, so that statements can be prepared, but it cannot be run.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, ObjectName, ObjectNamePart, TableFactor, Value, Visit,
    VisitMut, Visitor, VisitorMut, visit_expressions, visit_expressions_mut,
};

use super::graph_tables::{DOWNSTREAM, NEIGHBOURS, PATH_BETWEEN, UPSTREAM};
use super::search_table::SEARCH;
use super::sql::placeholder;
use super::usage_tables::REPORT;

/// The maximum number of characters of an argument that an error quotes.
const MAX_QUOTED_CHARS: usize = 24;

/// The signature of a table function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FunctionSignature {
    /// The function's name.
    pub name: &'static str,
    /// The types of the parameters.
    pub parameters: &'static [ArgumentType],
    /// The number of required arguments.
    pub required: usize,
    /// An example call, for error messages.
    pub example: &'static str,
}

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgumentType {
    /// A text.
    Text,
    /// A whole number.
    Integer,
}

/// The functions whose parameters have known types, which clients can ask for.
static SIGNATURES: [&FunctionSignature; 6] = [
    &NEIGHBOURS,
    &UPSTREAM,
    &DOWNSTREAM,
    &PATH_BETWEEN,
    &REPORT,
    &SEARCH,
];

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument<T> {
    /// The argument is omitted.
    Absent,
    /// The argument is null, or a parameter without a value.
    Unbound,
    /// The argument has this value.
    Given(T),
}

impl ArgumentType {
    const fn data_type(self) -> DataType {
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

/// Returns the name and the arguments of a call of a table function.
fn function_call(table: &TableFactor) -> Option<(&ObjectName, &[FunctionArg])> {
    match table {
        TableFactor::Table {
            name,
            args: Some(arguments),
            ..
        } => Some((name, &arguments.args)),
        TableFactor::Function { name, args, .. } => Some((name, args)),
        _ => None,
    }
}

/// Replaces parameters in the arguments of table functions by their values, or by null if there is none.
pub(super) fn bind_values(parsed: &mut Parsed, values: &[ScalarValue]) -> Result<()> {
    let statement = match parsed {
        Parsed::Statement(statement) => statement,
        Parsed::Explain(explain) => return bind_values(&mut explain.statement, values),
        _ => return Ok(()),
    };
    match VisitMut::visit(statement, &mut ValueBinder { values }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct ValueBinder<'a> {
    values: &'a [ScalarValue],
}

impl VisitorMut for ValueBinder<'_> {
    type Break = DataFusionError;

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Self::Break> {
        let (name, arguments) = match table {
            TableFactor::Table {
                name,
                args: Some(arguments),
                ..
            } => (name, &mut arguments.args),
            TableFactor::Function { name, args, .. } => (name, args),
            _ => return ControlFlow::Continue(()),
        };
        // Unquoted names are lower case, like those of tables; the planner does not convert the names of table
        // functions.
        if let [ObjectNamePart::Identifier(name)] = name.0.as_mut_slice()
            && name.quote_style.is_none()
        {
            name.value = name.value.to_lowercase();
        }
        for argument in arguments {
            visit_expressions_mut(argument, |expression| {
                let Some(number) = placeholder(expression) else {
                    return ControlFlow::Continue(());
                };
                let value = number.checked_sub(1).and_then(|at| self.values.get(at));
                match value.map_or(Ok(null()), literal) {
                    Ok(value) => *expression = value,
                    Err(error) => return ControlFlow::Break(error),
                }
                ControlFlow::Continue(())
            })?;
        }
        ControlFlow::Continue(())
    }
}

fn null() -> ast::Expr {
    ast::Expr::Value(Value::Null.with_empty_span())
}

/// Converts a value to a SQL literal.
fn literal(value: &ScalarValue) -> Result<ast::Expr> {
    if value.is_null() {
        return Ok(null());
    }
    let text = value.cast_to(&DataType::Utf8)?;
    let ScalarValue::Utf8(Some(text)) = text else {
        return Ok(null());
    };
    let value = match value.data_type() {
        kind if kind.is_numeric() => Value::Number(text, false),
        DataType::Boolean => Value::Boolean(text == "true"),
        _ => Value::SingleQuotedString(text),
    };
    Ok(ast::Expr::Value(value.with_empty_span()))
}

/// Returns the types of the parameters in arguments of table functions, by parameter number, as far as they are known.
pub(super) fn parameter_types(parsed: &Parsed) -> BTreeMap<usize, DataType> {
    let mut found = ParameterTypes::default();
    if let Parsed::Statement(statement) = parsed {
        let _: ControlFlow<()> = Visit::visit(&**statement, &mut found);
    }
    found.0
}

#[derive(Default)]
struct ParameterTypes(BTreeMap<usize, DataType>);

impl Visitor for ParameterTypes {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let Some((name, arguments)) = function_call(table) else {
            return ControlFlow::Continue(());
        };
        let name = name.to_string().to_lowercase();
        let form = SIGNATURES.iter().find(|form| form.name == name);
        let kinds = form.map_or(&[][..], |form| form.parameters);
        for (argument, kind) in arguments.iter().zip(kinds) {
            visit_expressions(argument, |expression| {
                if let Some(number) = placeholder(expression) {
                    self.0.insert(number, kind.data_type());
                }
                ControlFlow::<()>::Continue(())
            })?;
        }
        ControlFlow::Continue(())
    }
}

/// Whether an argument of a table function contains a function call. The plan has only the result of the call.
pub(super) fn has_computed_arguments(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Statement(statement) => Visit::visit(&**statement, &mut CallFinder).is_break(),
        _ => false,
    }
}

struct CallFinder;

impl Visitor for CallFinder {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let arguments = function_call(table).map_or(&[][..], |(_, arguments)| arguments);
        for argument in arguments {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expression))
            | FunctionArg::Named {
                arg: FunctionArgExpr::Expr(expression),
                ..
            } = argument
            {
                visit_expressions(expression, |part| match part {
                    ast::Expr::Function(_) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                })?;
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::super::{Query, Statement};
    use super::*;

    fn query(sql: &str) -> Query {
        match Statement::parse(sql).unwrap() {
            Statement::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }

    fn with_values(sql: &str, values: &[ScalarValue]) -> String {
        query(sql).with_arguments(values).unwrap().to_string()
    }

    #[test]
    fn with_arguments_replaces_parameters_in_table_functions() {
        let values = ["R-101".into(), ScalarValue::from(2_i64)];
        for (sql, expected) in [
            ("neighbours(?, ?)", "neighbours('R-101', 2)"),
            (
                "NEIGHBOURS('R-' || ?, ? + 1)",
                "neighbours('R-' || 'R-101', 2 + 1)",
            ),
            (
                "f(CAST($2 AS TEXT)), (SELECT $1)",
                "f(CAST(2 AS TEXT)), (SELECT $1)",
            ),
        ] {
            let filled = with_values(&format!("SELECT * FROM {sql}"), &values);
            assert_eq!(filled, format!("SELECT * FROM {expected}"));
        }
        assert_eq!(
            with_values("SELECT ? FROM downstream(?)", &[]),
            "SELECT $1 FROM downstream(NULL)"
        );
    }

    #[test]
    fn known_parameter_types_include_those_of_table_functions() {
        for (sql, expected) in [
            (
                "neighbours(?, ?)",
                vec![(1, DataType::Utf8), (2, DataType::Int64)],
            ),
            (
                "assets a, Downstream('R' || $2, $1 + 1)",
                vec![(1, DataType::Int64), (2, DataType::Utf8)],
            ),
            (
                "path_between(?, ?) LIMIT ?",
                vec![
                    (1, DataType::Utf8),
                    (2, DataType::Utf8),
                    (3, DataType::Int64),
                ],
            ),
            ("generate_series(?, ?)", Vec::new()),
        ] {
            let told = query(&format!("SELECT * FROM {sql}")).known_parameter_types();
            assert_eq!(told.into_iter().collect::<Vec<_>>(), expected, "{sql}");
        }
    }

    #[test]
    fn has_computed_arguments_detects_function_calls() {
        for (sql, expected) in [
            ("upstream('R-101', 1 + 2)", false),
            ("(SELECT now() AS n) x, upstream('R-' || ?)", false),
            (
                "generate_series(DATE '2024-01-01', now(), INTERVAL '1 day')",
                true,
            ),
            ("upstream('R-' || CAST(current_date AS TEXT))", true),
        ] {
            assert_eq!(
                query(&format!("SELECT * FROM {sql}")).has_computed_arguments(),
                expected,
                "{sql}"
            );
        }
    }

    #[test]
    fn long_argument_is_quoted_truncated() {
        let long = lit("7 ".repeat(5_000));
        let error = NEIGHBOURS.integer(&[long], 0).unwrap_err().to_string();
        assert!(error.contains("\"7 7 ") && error.contains("…\""), "{error}");
        assert!(error.len() < 200, "{error}");
        assert_eq!(quoted("a\"b"), r#""a\"b""#);
    }

    #[test]
    fn arguments_of_the_wrong_type_are_rejected() {
        let form = &NEIGHBOURS;
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
