//! `IN` with a list of values.

use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, binary_expr, not};

use super::canonical::is_grouped_by_form;
use super::days::compare_day;
use super::equality::{compared_constants, with_both_zeros};
use super::one_form::in_one_form_if;
use super::rows::find_row;

/// Returns `IN` as comparisons that are combined by `OR`, if the list has computed values; `None` if it has not. DataFusion takes
/// a value for constant if it can be computed without rows, such as a `CASE` (for no row, none of its conditions is true).
pub(super) fn compared_values(list: &InList) -> Option<Vec<Expr>> {
    let is_computed = |value: &Expr| {
        let value = match value {
            Expr::Cast(cast) => &cast.expr,
            value => value,
        };
        !matches!(value, Expr::Column(_)) && !value.column_refs().is_empty()
    };
    if !list.list.iter().any(is_computed) || list.expr.is_volatile() {
        return None;
    }
    let (computed, others): (Vec<Expr>, Vec<Expr>) =
        list.list.iter().cloned().partition(is_computed);
    let mut parts: Vec<Expr> = computed
        .into_iter()
        .map(|value| binary_expr((*list.expr).clone(), Operator::Eq, value))
        .collect();
    if !others.is_empty() {
        parts.push(Expr::InList(InList::new(list.expr.clone(), others, false)));
    }
    Some(parts)
}

/// Returns the expression that replaces `IN`; `None` if its result is right.
pub(super) fn replace_list(list: &InList, schema: &DFSchema) -> Option<Expr> {
    let with_negation = |found: Expr| match list.negated {
        true => not(found),
        false => found,
    };
    if let Some(found) = find_row(&list.expr, &list.list) {
        return Some(with_negation(found));
    }
    if let [value] = &*list.list {
        let equality = BinaryExpr::new(list.expr.clone(), Operator::Eq, Box::new(value.clone()));
        if let Some(found) = compare_day(&equality, schema) {
            return Some(with_negation(found));
        }
    }
    if let Some(value) = in_one_form_if(&list.expr, schema, is_grouped_by_form) {
        let one_form = |value: &Expr| in_one_form_if(value, schema, is_grouped_by_form);
        let values = list.list.iter();
        let values = values.map(|value| one_form(value).unwrap_or_else(|| value.clone()));
        return Some(Expr::InList(InList::new(
            Box::new(value),
            values.collect(),
            list.negated,
        )));
    }
    compared_constants(list, schema).or_else(|| with_both_zeros(list))
}
