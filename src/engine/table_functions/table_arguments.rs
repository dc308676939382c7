//! Parameters in the arguments of table functions. The arguments are evaluated while a statement is planned, so the values
//! of parameters are put into the statement before; parameters without a value become null.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, ObjectName, ObjectNamePart, TableFactor, Value, Visit,
    VisitMut, Visitor, VisitorMut, visit_expressions, visit_expressions_mut,
};

use super::find_table_function;

/// Returns the number of a placeholder `$n`.
pub(in crate::engine) fn placeholder(expression: &ast::Expr) -> Option<usize> {
    match expression {
        ast::Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
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
pub(in crate::engine) fn bind_values(parsed: &mut Parsed, values: &[ScalarValue]) -> Result<()> {
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
pub(in crate::engine) fn parameter_types(parsed: &Parsed) -> BTreeMap<usize, DataType> {
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
        let function = find_table_function(&name);
        let parameters = function.map_or(&[][..], |function| function.signature.parameters);
        for (argument, (_, kind)) in arguments.iter().zip(parameters) {
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
pub(in crate::engine) fn has_computed_arguments(parsed: &Parsed) -> bool {
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
    use super::*;
    use crate::engine::sql::statement::{Query, Statement};

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
}
