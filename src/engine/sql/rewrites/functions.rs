//! Functions that other databases have under other names, or that are short for an expression.

use datafusion::sql::sqlparser::ast::{Expr, Function, Ident, ObjectName};

use super::template::{call, expand, find_template, function_name, plain_arguments};
use super::{dates, odbc};
use crate::engine::query_error::QueryError;

/// Functions that exist under another name.
const RENAMED: &[(&str, &str)] = &[
    ("approx_count_distinct", "approx_distinct"),
    ("ceiling", "ceil"),
    ("curdate", "current_date"),
    ("curtime", "current_time"),
    ("every", "bool_and"),
    ("getdate", "now"),
    ("lcase", "lower"),
    ("len", "length"),
    ("rand", "random"),
    ("sign", "signum"),
    ("strftime", "to_char"),
    ("ucase", "upper"),
    ("variance", "var_samp"),
];

/// Functions that are short for an expression: the name, the number of arguments, and the expression.
const TEMPLATES: &[(&str, usize, &str)] = &[
    ("day", 1, "date_part('day', arg1)"),
    ("dayofmonth", 1, "date_part('day', arg1)"),
    ("dayofyear", 1, "date_part('doy', arg1)"),
    ("from_hex", 1, "decode(arg1, 'hex')"),
    ("hour", 1, "date_part('hour', arg1)"),
    (
        "last_day",
        1,
        "CAST(date_trunc('month', arg1) + INTERVAL '1 month' - INTERVAL '1 day' AS DATE)",
    ),
    ("localtime", 0, "CAST(to_local_time(now()) AS TIME)"),
    ("localtimestamp", 0, "to_local_time(now())"),
    ("locate", 2, "strpos(arg2, arg1)"),
    ("minute", 1, "date_part('minute', arg1)"),
    ("mod", 2, "(arg1 % arg2)"),
    ("month", 1, "date_part('month', arg1)"),
    ("quarter", 1, "date_part('quarter', arg1)"),
    ("second", 1, "date_part('second', arg1)"),
    ("year", 1, "date_part('year', arg1)"),
];

/// Names that are functions even without parentheses.
const BARE_NAMES: [&str; 3] = ["current_catalog", "current_database", "current_schema"];

/// Returns the new name of a function; `None` if its name stays.
pub(super) fn renamed(name: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(old, _)| *old == name);
    found.map(|(_, new)| *new)
}

/// Whether calls of the function are rewritten.
pub(super) fn is_rewritten(call: &Function) -> bool {
    let Some(name) = function_name(call) else {
        return false;
    };
    call.uses_odbc_syntax
        || renamed(&name).is_some()
        || TEMPLATES.iter().any(|(known, ..)| *known == name)
        || dates::is_date_function(&name)
}

/// Rewrites a call.
pub(super) fn rewrite_call(expression: &mut Expr) -> Result<(), QueryError> {
    let Expr::Function(function) = expression else {
        return Ok(());
    };
    let Some(name) = function_name(function) else {
        return Ok(());
    };
    if function.uses_odbc_syntax
        && let Some(arguments) = plain_arguments(function)
        && let Some(rewritten) = odbc::rewrite(&name, &arguments)?
    {
        *expression = rewritten;
        return Ok(());
    }
    if let Some(new) = renamed(&name) {
        function.name = ObjectName::from(vec![Ident::new(new)]);
        return Ok(());
    }
    let is_short = TEMPLATES.iter().any(|(known, ..)| *known == name);
    if !is_short && !dates::is_date_function(&name) {
        return Ok(());
    }
    let Some(arguments) = plain_arguments(function) else {
        return Ok(());
    };
    let rewritten = match find_template(TEMPLATES, &name, arguments.len()) {
        Some(template) => Some(expand(template, &arguments)?),
        None => dates::rewrite(&name, &arguments)?,
    };
    if let Some(rewritten) = rewritten {
        *expression = rewritten;
    }
    Ok(())
}

/// Turns a name such as `current_schema` without parentheses into a call.
pub(super) fn rewrite_identifier(expression: &mut Expr) {
    let Expr::Identifier(name) = expression else {
        return;
    };
    let lower = name.value.to_lowercase();
    if name.quote_style.is_none() && BARE_NAMES.contains(&lower.as_str()) {
        *expression = call(&lower, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_can_be_expanded() {
        for (name, arguments, template) in TEMPLATES {
            let operands = vec![Expr::Identifier(Ident::new("x")); *arguments];
            let expanded = expand(template, &operands).unwrap().to_string();
            assert!(!expanded.contains("arg"), "{name}: {expanded}");
        }
    }
}
