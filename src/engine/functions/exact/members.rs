//! `IN` with a list of values.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, binary_expr, not};

use super::canonical::is_grouped_by_form;
use super::days::compare_day;
use super::equality::{compared_constants, with_both_zeros};
use super::one_form::in_one_form_if;
use super::rows::find_row;

/// The maximum number of parts that comparisons with computed values repeat.
const MAX_REPEATED_PARTS: usize = 100_000;

/// Returns `IN` as comparisons that are combined by `OR`, if the list has computed values; `None` if it has not. DataFusion takes
/// a value for constant if it can be computed without rows, such as a `CASE` (for no row, none of its conditions is true).
///
/// # Errors
/// A plan error if the comparisons would be too many.
pub(super) fn compared_values(list: &InList) -> Result<Option<Vec<Expr>>> {
    let is_computed = |value: &Expr| {
        let value = match value {
            Expr::Cast(cast) => &cast.expr,
            value => value,
        };
        !matches!(value, Expr::Column(_)) && !value.column_refs().is_empty()
    };
    let count = list.list.iter().filter(|value| is_computed(value)).count();
    if count == 0 || list.expr.is_volatile() {
        return Ok(None);
    }
    let mut repeated: usize = 0;
    list.expr.apply(|_| {
        repeated += 1;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if repeated.saturating_mul(count) > MAX_REPEATED_PARTS {
        return plan_err!(
            "the list of IN has {count} computed values, and the compared expression {repeated} parts, which is too much together; \
             compute the expression in a sub-query of FROM"
        );
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
    Ok(Some(parts))
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
