//! Comparisons of rows, such as `(a, b) IN (SELECT …)`. The planner would compare structs, in which null is equal to null,
//! and takes queries of one column only.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Select,
    SetExpr, TableFactor, UnaryOperator,
};

use super::template::{check_repeatable, parse_query};
use crate::engine::query_error::QueryError;

/// The maximum number of rows in a list.
const MAX_ROWS: usize = 500;
/// The maximum number of values in a row.
const MAX_COLUMNS: usize = 64;
/// The name of the query whose rows are compared.
const ROWS: &str = "compared rows";

/// Whether the expression is a row, written `(a, b)` or `ROW(a, b)`.
pub(super) fn is_row(expression: &Expr) -> bool {
    matches!(expression, Expr::Tuple(_)) || row_arguments(expression).is_some()
}

/// Returns the values of `ROW(a, b)`; `None` for other expressions.
fn row_arguments(expression: &Expr) -> Option<Vec<Expr>> {
    let Expr::Function(Function {
        name,
        args: FunctionArguments::List(arguments),
        ..
    }) = expression
    else {
        return None;
    };
    let [part] = &*name.0 else {
        return None;
    };
    let is_row = part
        .as_ident()
        .is_some_and(|name| name.quote_style.is_none() && name.value.eq_ignore_ascii_case("row"));
    if !is_row || !arguments.clauses.is_empty() {
        return None;
    }
    let values = arguments.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
        _ => None,
    });
    values.collect()
}

/// Writes the rows that an operator compares as `(a, b)`. Elsewhere, `ROW(a, b)` is a value with named fields.
pub(super) fn write_compared_rows(expression: &mut Expr) {
    match expression {
        Expr::BinaryOp { left, op, right }
            if is_comparison(op) && is_row(left) && is_row(right) =>
        {
            write_as_tuple(left);
            write_as_tuple(right);
        }
        Expr::InList { expr, list, .. } if is_row(expr) && list.iter().all(is_row) => {
            write_as_tuple(expr);
            list.iter_mut().for_each(write_as_tuple);
        }
        Expr::InSubquery { expr, .. } => write_as_tuple(expr),
        _ => {}
    }
}

fn write_as_tuple(expression: &mut Expr) {
    if let Some(values) = row_arguments(expression) {
        *expression = Expr::Tuple(values);
    }
}

fn is_comparison(operator: &BinaryOperator) -> bool {
    matches!(
        operator,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

/// Rewrites `(a, b) IN (SELECT …)` in `WHERE`. There, unknown is the same as false.
pub(super) fn rewrite_where(select: &mut Select) -> Result<(), QueryError> {
    match &mut select.selection {
        Some(condition) => rewrite_condition(condition, false),
        None => Ok(()),
    }
}

/// Rewrites a condition for which unknown may become false, or true if it is negated.
fn rewrite_condition(condition: &mut Expr, is_negated: bool) -> Result<(), QueryError> {
    match condition {
        Expr::Nested(inside) => rewrite_condition(inside, is_negated),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => rewrite_condition(expr, !is_negated),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And | BinaryOperator::Or,
            right,
        } => {
            rewrite_condition(left, is_negated)?;
            rewrite_condition(right, is_negated)
        }
        Expr::InSubquery {
            expr,
            subquery,
            negated,
        } => {
            write_as_tuple(expr);
            let Expr::Tuple(values) = &**expr else {
                return Ok(());
            };
            // Under NOT, a row must be left out if the comparison is unknown.
            let keeps_unknown = is_negated != *negated;
            let subquery = exists_query(values, subquery, keeps_unknown)?;
            *condition = Expr::Exists {
                subquery,
                negated: *negated,
            };
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns the query of the rows that are equal to `values`, with those for which that is unknown if required.
fn exists_query(
    values: &[Expr],
    rows: &Query,
    keeps_unknown: bool,
) -> Result<Box<Query>, QueryError> {
    check_columns(values)?;
    let columns = (1..=values.len()).map(|at| format!("\"column {at}\""));
    let columns: Vec<String> = columns.collect();
    let equal = (1..=values.len()).map(|at| format!("\"{ROWS}\".\"column {at}\" = true"));
    let equal = equal.collect::<Vec<_>>().join(" AND ");
    let condition = match keeps_unknown {
        true => format!("({equal}) IS NOT FALSE"),
        false => equal,
    };
    let mut query = parse_query(&format!(
        "SELECT 1 FROM (SELECT 1) AS \"{ROWS}\" ({}) WHERE {condition}",
        columns.join(", ")
    ))?;
    if let SetExpr::Select(select) = &mut *query.body {
        let relation = select.from.first_mut().map(|table| &mut table.relation);
        if let Some(TableFactor::Derived { subquery, .. }) = relation {
            **subquery = rows.clone();
        }
        let mut values = values.iter();
        if let Some(condition) = &mut select.selection {
            fill_in(condition, &mut values);
        }
    }
    Ok(query)
}

/// Replaces the right sides of the comparisons by the values.
fn fill_in<'a>(condition: &mut Expr, values: &mut impl Iterator<Item = &'a Expr>) {
    match condition {
        Expr::IsNotFalse(inside) | Expr::Nested(inside) => fill_in(inside, values),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            fill_in(left, values);
            fill_in(right, values);
        }
        Expr::BinaryOp { right, .. } => {
            if let Some(value) = values.next() {
                **right = value.clone();
            }
        }
        _ => {}
    }
}

/// Rewrites a comparison of rows of values, and refuses one with a query that is no condition.
pub(super) fn rewrite_comparison(expression: &mut Expr) -> Result<(), QueryError> {
    let rewritten = match expression {
        Expr::BinaryOp { left, op, right } => match (&**left, &**right) {
            (Expr::Tuple(left), Expr::Tuple(right)) => compare(left, op, right)?,
            _ => return Ok(()),
        },
        Expr::InList {
            expr,
            list,
            negated,
        } => match &**expr {
            Expr::Tuple(values) => in_list(values, list, *negated)?,
            _ => return Ok(()),
        },
        Expr::InSubquery { expr, .. } if matches!(**expr, Expr::Tuple(_)) => {
            return Err(QueryError::Unsupported {
                what: "IN with several columns and a query, other than as a condition".into(),
                remedy: "use EXISTS (SELECT … WHERE …) in WHERE".into(),
            });
        }
        _ => return Ok(()),
    };
    if let Some(rewritten) = rewritten {
        *expression = Expr::Nested(Box::new(rewritten));
    }
    Ok(())
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

fn check_lengths(left: &[Expr], right: &[Expr]) -> Result<(), QueryError> {
    check_columns(left)?;
    match left.len() == right.len() {
        true => Ok(()),
        false => Err(QueryError::Unsupported {
            what: format!(
                "the comparison of {} with {} values",
                left.len(),
                right.len()
            )
            .into(),
            remedy: "compare rows of the same length".into(),
        }),
    }
}

/// Refuses long rows: each value nests the condition one level deeper.
fn check_columns(values: &[Expr]) -> Result<(), QueryError> {
    match values.len() {
        0..=MAX_COLUMNS => Ok(()),
        count => Err(QueryError::Unsupported {
            what: format!("a row of {count} values, more than {MAX_COLUMNS},").into(),
            remedy: "compare fewer".into(),
        }),
    }
}

/// Returns the comparison of two rows; `None` for operators that do not compare.
fn compare(
    left: &[Expr],
    operator: &BinaryOperator,
    right: &[Expr],
) -> Result<Option<Expr>, QueryError> {
    match operator {
        BinaryOperator::Eq => {
            check_lengths(left, right)?;
            Ok(Some(equal(left, right)))
        }
        BinaryOperator::NotEq => {
            check_lengths(left, right)?;
            Ok(Some(not(equal(left, right))))
        }
        BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
            check_lengths(left, right)?;
            left.iter().chain(right).try_for_each(check_repeatable)?;
            Ok(ordered(left, operator, right))
        }
        _ => Ok(None),
    }
}

fn not(condition: Expr) -> Expr {
    Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(Expr::Nested(Box::new(condition))),
    }
}

fn equal(left: &[Expr], right: &[Expr]) -> Expr {
    let pairs = left.iter().zip(right);
    let pairs = pairs.map(|(left, right)| binary(left.clone(), BinaryOperator::Eq, right.clone()));
    let all = pairs.reduce(|all, pair| binary(all, BinaryOperator::And, pair));
    // Rows of no values do not parse.
    all.unwrap_or_else(|| Expr::Tuple(Vec::new()))
}

/// Returns `a < x OR (a = x AND (b, …) < (y, …))`.
fn ordered(left: &[Expr], operator: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    let strict = match operator {
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        _ => BinaryOperator::Gt,
    };
    let mut pairs = left.iter().zip(right).rev();
    let (last_left, last_right) = pairs.next()?;
    let last = binary(last_left.clone(), operator.clone(), last_right.clone());
    let whole = pairs.fold(last, |rest, (left, right)| {
        let less = binary(left.clone(), strict.clone(), right.clone());
        let equal = binary(left.clone(), BinaryOperator::Eq, right.clone());
        let tied = binary(equal, BinaryOperator::And, Expr::Nested(Box::new(rest)));
        binary(less, BinaryOperator::Or, Expr::Nested(Box::new(tied)))
    });
    Some(whole)
}

/// Returns whether the row is equal to one of the list, as a balanced tree, so that long lists nest little.
fn in_list(values: &[Expr], list: &[Expr], is_negated: bool) -> Result<Option<Expr>, QueryError> {
    if list.len() > MAX_ROWS {
        return Err(QueryError::Unsupported {
            what: format!("IN with {} rows, more than {MAX_ROWS},", list.len()).into(),
            remedy: "use IN (SELECT … FROM (VALUES …))".into(),
        });
    }
    values.iter().try_for_each(check_repeatable)?;
    let mut rows = Vec::with_capacity(list.len());
    for row in list {
        let Expr::Tuple(row) = row else {
            return Err(QueryError::Unsupported {
                what: "the comparison of several values with one".into(),
                remedy: "write each row of the list in parentheses".into(),
            });
        };
        check_lengths(values, row)?;
        rows.push(equal(values, row));
    }
    while rows.len() > 1 {
        let mut pairs = rows.into_iter();
        let mut halved = Vec::with_capacity(pairs.len().div_ceil(2));
        while let Some(one) = pairs.next() {
            halved.push(match pairs.next() {
                Some(other) => binary(one, BinaryOperator::Or, other),
                None => one,
            });
        }
        rows = halved;
    }
    let any = rows.pop();
    Ok(any.map(|any| match is_negated {
        true => not(any),
        false => any,
    }))
}
