//! The two zeros of floating-point numbers. They are equal in SQL, but Arrow distinguishes them where it sorts, and where it
//! looks values up.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, InList, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{Case, Expr, LogicalPlan, Operator, binary_expr, lit, not, when};

use super::kinds::type_of;
use super::operators::Exact;
use super::rows::balanced;

fn is_double(expression: &Expr, schema: &DFSchema) -> bool {
    matches!(
        type_of(expression, schema),
        Some(DataType::Float64 | DataType::Float32 | DataType::Float16)
    )
}

/// Returns `nullif(a, b)` of doubles as `CASE WHEN a = b …`.
pub(super) fn null_if_equal(call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    let [value, other] = &*call.args else {
        return Ok(None);
    };
    let Some(kind) = type_of(value, schema).filter(|_| is_double(value, schema)) else {
        return Ok(None);
    };
    if value.is_volatile() || !is_double(other, schema) {
        return Ok(None);
    }
    let null = ScalarValue::try_new_null(&kind)?;
    let is_equal = value.clone().eq(other.clone());
    Ok(Some(when(is_equal, lit(null)).otherwise(value.clone())?))
}

/// Returns `CASE a WHEN b …` of doubles as `CASE WHEN a = b …`.
pub(super) fn searched_case(case: &Case, schema: &DFSchema) -> Option<Expr> {
    let value = case.expr.as_ref()?;
    if !is_double(value, schema) || value.is_volatile() {
        return None;
    }
    let branches = case.when_then_expr.iter().map(|(key, result)| {
        let is_equal = (**value).clone().eq((**key).clone());
        (Box::new(is_equal), result.clone())
    });
    Some(Expr::Case(Case::new(
        None,
        branches.collect(),
        case.else_expr.clone(),
    )))
}

/// Returns `IN` of doubles as comparisons with the constants that are not computed yet. A computed list is searched for the
/// same bits.
pub(super) fn compared_constants(list: &InList, schema: &DFSchema) -> Option<Expr> {
    let is_constant = |value: &Expr| {
        !matches!(value, Expr::Literal(..))
            && value.column_refs().is_empty()
            && !value.is_volatile()
    };
    if !list.list.iter().any(is_constant)
        || !is_double(&list.expr, schema)
        || list.expr.is_volatile()
    {
        return None;
    }
    let (constants, others): (Vec<Expr>, Vec<Expr>) =
        list.list.iter().cloned().partition(is_constant);
    let mut parts: Vec<Expr> = constants
        .into_iter()
        .map(|value| binary_expr((*list.expr).clone(), Operator::Eq, value))
        .collect();
    if !others.is_empty() {
        let others = InList::new(list.expr.clone(), others, false);
        let completed = with_both_zeros(&others);
        parts.push(completed.unwrap_or(Expr::InList(others)));
    }
    let found = balanced(parts, Operator::Or)?;
    Some(match list.negated {
        true => not(found),
        false => found,
    })
}

/// Returns the key with one zero; `None` if it is no double.
pub(super) fn with_one_zero(key: &Expr, schema: &DFSchema) -> Option<Expr> {
    let kind = type_of(key, schema).filter(|_| is_double(key, schema))?;
    Some(Exact::OneZero(kind).call(vec![key.clone()]))
}

/// Whether a window function may have keys with two zeros.
pub(super) fn has_keys(call: &WindowFunction) -> bool {
    !call.params.partition_by.is_empty() || !call.params.order_by.is_empty()
}

/// Returns the window function with keys that have one zero; `None` if no key is a double.
pub(super) fn window_with_one_zero(call: &WindowFunction, schema: &DFSchema) -> Option<Expr> {
    let mut replaced = call.clone();
    let mut is_replaced = false;
    let partition_by = replaced.params.partition_by.iter_mut();
    let order_by = replaced.params.order_by.iter_mut().map(|key| &mut key.expr);
    for key in partition_by.chain(order_by) {
        if let Some(one_zero) = with_one_zero(key, schema) {
            *key = one_zero;
            is_replaced = true;
        }
    }
    is_replaced.then(|| Expr::WindowFunction(Box::new(replaced)))
}

/// Returns an aggregate of distinct values with values that have one zero; `None` if they are no doubles.
pub(super) fn distinct_with_one_zero(call: &AggregateFunction, schema: &DFSchema) -> Option<Expr> {
    if !call.params.distinct {
        return None;
    }
    let mut replaced = call.clone();
    let mut is_replaced = false;
    let order_by = replaced.params.order_by.iter_mut().map(|key| &mut key.expr);
    for value in replaced.params.args.iter_mut().chain(order_by) {
        if !matches!(value, Expr::Literal(..))
            && let Some(one_zero) = with_one_zero(value, schema)
        {
            *value = one_zero;
            is_replaced = true;
        }
    }
    is_replaced.then_some(Expr::AggregateFunction(replaced))
}

/// Whether the rows of a sort that are equal in one key are sorted by another.
pub(super) fn has_ties(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Sort(step) if step.expr.len() > 1)
}

/// Returns the sort with keys that have one zero. The order of rows that are equal in all keys does not matter, so that the last
/// key stays.
pub(super) fn sort_with_one_zero(node: LogicalPlan) -> Transformed<LogicalPlan> {
    let LogicalPlan::Sort(mut step) = node else {
        return Transformed::no(node);
    };
    let mut is_replaced = false;
    if let Some((_, keys)) = step.expr.split_last_mut() {
        for key in keys {
            if let Some(one_zero) = with_one_zero(&key.expr, step.input.schema()) {
                key.expr = one_zero;
                is_replaced = true;
            }
        }
    }
    match is_replaced {
        true => Transformed::yes(LogicalPlan::Sort(step)),
        false => Transformed::no(LogicalPlan::Sort(step)),
    }
}

/// Returns the list with both zeros if it has one of them: they are equal, but a list is searched for the same bits.
pub(super) fn with_both_zeros(list: &InList) -> Option<Expr> {
    let zeros: Vec<Expr> = list.list.iter().filter_map(negative_zero).collect();
    let is_complete = zeros.iter().all(|zero| list.list.contains(zero));
    (!zeros.is_empty() && !is_complete).then(|| {
        let mut completed = list.clone();
        completed.list.extend(zeros);
        Expr::InList(completed)
    })
}

pub(super) fn is_zero(value: &Expr) -> bool {
    negative_zero(value).is_some()
}

/// Returns the other zero if this is a zero of a floating-point type.
fn negative_zero(value: &Expr) -> Option<Expr> {
    match value {
        Expr::Literal(ScalarValue::Float64(Some(zero)), _) if *zero == 0.0 => Some(lit(-zero)),
        Expr::Literal(ScalarValue::Float32(Some(zero)), _) if *zero == 0.0 => Some(lit(-zero)),
        _ => None,
    }
}
