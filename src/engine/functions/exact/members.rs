//! `IN` with a list of values.

use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, not};

use super::canonical::is_grouped_by_form;
use super::days::compare_day;
use super::equality::{compared_constants, with_both_zeros};
use super::one_form::in_one_form_if;
use super::rows::find_row;

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
