//! Comparison of rows, such as `(a, b) = (1, 2)` and `(a, b) IN ((1, 2))`. DataFusion compares structs, in which null is a value:
//! `(a, b) NOT IN (…)` is true where `a` is null.

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Cast, Expr, Operator, binary_expr};

/// Returns the comparison of two rows as comparisons of their values; `None` if it is none of `=`, `<>` of rows.
pub(super) fn compare_rows(left: &Expr, operator: Operator, right: &Expr) -> Option<Expr> {
    let combine = match operator {
        Operator::Eq => Operator::And,
        Operator::NotEq => Operator::Or,
        _ => return None,
    };
    let (left, right) = (row_values(left)?, row_values(right)?);
    if left.len() != right.len() {
        return None;
    }
    let pairs = left.into_iter().zip(right);
    let compared = pairs.map(|(left, right)| binary_expr(left, operator, right));
    balanced(compared.collect(), combine)
}

/// Returns `expression IN (list)` as comparisons of values; `None` if these are no rows.
pub(super) fn find_row(expression: &Expr, list: &[Expr]) -> Option<Expr> {
    row_values(expression)?;
    let found = list
        .iter()
        .map(|row| compare_rows(expression, Operator::Eq, row));
    balanced(found.collect::<Option<_>>()?, Operator::Or)
}

/// Returns the values of a row; `None` if the expression is none.
pub(super) fn row_values(expression: &Expr) -> Option<Vec<Expr>> {
    match expression {
        Expr::ScalarFunction(call) => match call.name() {
            "struct" | "row" => Some(call.args.clone()),
            "named_struct" => Some(call.args.iter().skip(1).step_by(2).cloned().collect()),
            _ => None,
        },
        Expr::Cast(cast) => {
            let DataType::Struct(fields) = cast.field.data_type() else {
                return None;
            };
            let values = row_values(&cast.expr)?.into_iter().zip(fields);
            let values = values.map(|(value, field)| {
                Expr::Cast(Cast::new(Box::new(value), field.data_type().clone()))
            });
            Some(values.collect())
        }
        _ => None,
    }
}

/// Combines the parts to a tree of little depth; `None` if there are none.
pub(super) fn balanced(mut parts: Vec<Expr>, operator: Operator) -> Option<Expr> {
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary_expr(left, operator, right),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.pop()
}
