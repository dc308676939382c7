//! `= ANY(list)`. The planner lets a null element count as a value that is not equal, and compares with the least and the greatest
//! element only; `ALL` has the nulls of the standard.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

/// Rewrites `a = ANY(list)` to `NOT a <> ALL(list)`, and the other comparisons likewise. Queries stay as they are.
pub(super) fn rewrite_any(expression: &mut Expr) {
    let Expr::AnyOp {
        left,
        compare_op,
        right,
        ..
    } = expression
    else {
        return;
    };
    let Some(opposite) = opposite(compare_op).filter(|_| !matches!(**right, Expr::Subquery(_)))
    else {
        return;
    };
    let take = |part: &mut Box<Expr>| {
        let nothing = Expr::Value(Value::Null.with_empty_span());
        Box::new(std::mem::replace(&mut **part, nothing))
    };
    let all = Expr::AllOp {
        left: take(left),
        compare_op: opposite,
        right: take(right),
    };
    *expression = Expr::Nested(Box::new(Expr::UnaryOp {
        op: UnaryOperator::Not,
        expr: Box::new(all),
    }));
}

fn opposite(operator: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match operator {
        BinaryOperator::Eq => BinaryOperator::NotEq,
        BinaryOperator::NotEq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::GtEq,
        BinaryOperator::LtEq => BinaryOperator::Gt,
        BinaryOperator::Gt => BinaryOperator::LtEq,
        BinaryOperator::GtEq => BinaryOperator::Lt,
        _ => return None,
    })
}
