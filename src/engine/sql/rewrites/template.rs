//! Expressions that are written as SQL, with the operands of others in them.

use std::ops::ControlFlow;

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, Value, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use crate::engine::query_error::QueryError;

/// The maximum number of expressions in an operand that a template repeats. Without a limit, nested templates would grow
/// exponentially.
const MAX_REPEATED: usize = 64;

fn invalid(error: ParserError) -> QueryError {
    DataFusionError::SQL(Box::new(error), None).into()
}

/// Returns the template with the operands in place of `arg1`, `arg2`, …. A template may name an operand several times.
///
/// # Errors
/// If an operand that is named several times is too large.
pub(super) fn expand(template: &str, operands: &[Expr]) -> Result<Expr, QueryError> {
    let mut parser = Parser::new(&GenericDialect {})
        .try_with_sql(template)
        .map_err(invalid)?;
    let mut expression = parser.parse_expr().map_err(invalid)?;
    let mut uses = vec![0_usize; operands.len()];
    let _: ControlFlow<()> = visit_expressions_mut(&mut expression, |part| {
        if let Some(at) = operand_index(part)
            && let (Some(operand), Some(uses)) = (operands.get(at), uses.get_mut(at))
        {
            *uses += 1;
            *part = operand.clone();
        }
        ControlFlow::Continue(())
    });
    for (operand, uses) in operands.iter().zip(uses) {
        if uses > 1 {
            check_repeatable(operand)?;
        }
    }
    Ok(expression)
}

/// Returns the expression that a call is short for.
pub(super) fn find_template(
    templates: &'static [(&'static str, usize, &'static str)],
    name: &str,
    arguments: usize,
) -> Option<&'static str> {
    let found = templates
        .iter()
        .find(|(known, count, _)| *known == name && *count == arguments);
    found.map(|(_, _, template)| *template)
}

/// Returns the index of the operand that an identifier of a template names.
fn operand_index(part: &Expr) -> Option<usize> {
    match part {
        Expr::Identifier(name) => name
            .value
            .strip_prefix("arg")?
            .parse::<usize>()
            .ok()?
            .checked_sub(1),
        _ => None,
    }
}

/// Returns an error if the operand is too large to be repeated.
pub(super) fn check_repeatable(operand: &Expr) -> Result<(), QueryError> {
    let mut parts = 0;
    let _: ControlFlow<()> = visit_expressions(operand, |_| {
        parts += 1;
        ControlFlow::Continue(())
    });
    match parts {
        0..=MAX_REPEATED => Ok(()),
        _ => Err(QueryError::Unsupported {
            what: "an operand of this size".into(),
            remedy: "compute it in a common table expression, and name it here".into(),
        }),
    }
}

/// Parses a query that a rewrite completes.
pub(super) fn parse_query(text: &str) -> Result<Box<Query>, QueryError> {
    let mut parser = Parser::new(&GenericDialect {})
        .try_with_sql(text)
        .map_err(invalid)?;
    parser.parse_query().map_err(invalid)
}

/// Returns a number as a literal.
pub(super) fn number(value: u64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_empty_span())
}

/// Returns a text as a literal.
pub(super) fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_empty_span())
}

/// Returns the text of a literal; `None` for other expressions.
pub(super) fn literal_text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            Value::DollarQuotedString(text) => Some(&text.value),
            _ => None,
        },
        _ => None,
    }
}

/// Returns a call of a function.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let arguments = arguments
        .into_iter()
        .map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Returns the arguments of a call that has nothing but unnamed expressions as arguments; `None` for other calls.
pub(super) fn plain_arguments(call: &Function) -> Option<Vec<Expr>> {
    let is_plain = call.filter.is_none()
        && call.null_treatment.is_none()
        && call.over.is_none()
        && call.within_group.is_empty();
    if !is_plain {
        return None;
    }
    let list = match &call.args {
        FunctionArguments::None => return Some(Vec::new()),
        FunctionArguments::List(list)
            if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
        {
            list
        }
        _ => return None,
    };
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) => Some(argument.clone()),
        _ => None,
    });
    arguments.collect()
}

/// Returns the name of a function, in lower case unless it is quoted; `None` for names of several parts.
pub(super) fn function_name(call: &Function) -> Option<String> {
    let [part] = call.name.0.as_slice() else {
        return None;
    };
    let part = part.as_ident()?;
    Some(match part.quote_style {
        Some(_) => part.value.clone(),
        None => part.value.to_lowercase(),
    })
}
