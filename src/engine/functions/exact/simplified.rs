//! Conditions that DataFusion simplifies to ones that are not null where they should be.

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit, when};

use super::kinds::type_of;
use super::operators::Exact;

/// Whether the operator matches the pattern of any text, which is simplified to `IS NOT NULL` (apache/datafusion#24379).
pub(super) fn is_any_text(operator: Operator, pattern: &Expr) -> bool {
    let is_match = matches!(
        operator,
        Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
    );
    let Expr::Literal(pattern, _) = pattern else {
        return false;
    };
    is_match && pattern.try_as_str().flatten() == Some(".*")
}

/// Returns the match of any text, which is null for null.
pub(super) fn match_any_text(operation: &BinaryExpr) -> Result<Expr> {
    let is_match = matches!(operation.op, Operator::RegexMatch | Operator::RegexIMatch);
    let null = lit(ScalarValue::Boolean(None));
    when((*operation.left).clone().is_null(), null).otherwise(lit(is_match))
}

/// Whether the operand may be a list that is intersected with another one.
pub(super) fn may_be_intersected(right: &Expr) -> bool {
    matches!(right, Expr::InList(_))
}

/// Returns `a IN (…) AND a IN (…)` with a second `a` that DataFusion does not recognise; `None` for others. It intersects the
/// lists, and takes an empty intersection for false where `a` is null (apache/datafusion#24246).
pub(super) fn without_intersection(operation: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let Expr::InList(right) = &*operation.right else {
        return None;
    };
    if !has_list_of(&operation.left, operation.op, right) {
        return None;
    }
    let kind = type_of(&right.expr, schema)?;
    let hidden = InList {
        expr: Box::new(Exact::Hidden(kind).call(vec![(*right.expr).clone()])),
        ..right.clone()
    };
    Some(Expr::BinaryExpr(BinaryExpr::new(
        operation.left.clone(),
        operation.op,
        Box::new(Expr::InList(hidden)),
    )))
}

/// Whether a list of the same value is among the operands of `operator`.
fn has_list_of(operands: &Expr, operator: Operator, list: &InList) -> bool {
    let mut rest = operands;
    loop {
        match rest {
            Expr::BinaryExpr(operation) if operation.op == operator => {
                if is_list_of(&operation.right, list) {
                    return true;
                }
                rest = &operation.left;
            }
            last => return is_list_of(last, list),
        }
    }
}

fn is_list_of(operand: &Expr, list: &InList) -> bool {
    matches!(operand, Expr::InList(other) if other.expr == list.expr)
}
