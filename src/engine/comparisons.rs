//! Operators that compare two values.

use datafusion::logical_expr::Operator;

/// Whether an operator compares two values; such a comparison cannot fail.
pub(in crate::engine) fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}
