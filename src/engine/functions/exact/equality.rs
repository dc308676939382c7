//! Equality of values that have several forms ([`canonical`](super::canonical)) where Arrow compares their bits.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, InList, InSubquery, ScalarFunction, WindowFunction,
};
use datafusion::logical_expr::logical_plan::{Distinct, Projection};
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, LogicalPlan, Operator, binary_expr, lit, not, when,
};

use super::canonical::{has_several_forms, is_grouped_by_form, is_nested_with_forms};
use super::kinds::type_of;
use super::one_form::{in_one_form, in_one_form_if};
use super::rows::balanced;

fn is_double(expression: &Expr, schema: &DFSchema) -> bool {
    type_of(expression, schema).is_some_and(|kind| kind.is_floating())
}

fn has_forms(expression: &Expr, schema: &DFSchema) -> bool {
    type_of(expression, schema).is_some_and(|kind| has_several_forms(&kind))
}

/// Returns whether two values are equal. Arrow compares floating-point numbers rightly, but not nested ones, or intervals.
fn equal(left: &Expr, right: &Expr, schema: &DFSchema) -> Expr {
    let one_form = |value: &Expr| match in_one_form_if(value, schema, is_grouped_by_form) {
        Some(one_form) => one_form,
        None => value.clone(),
    };
    one_form(left).eq(one_form(right))
}

/// Whether both operands may be lists or rows. The types of constants are known.
pub(super) fn may_be_nested(left: &Expr, right: &Expr) -> bool {
    let may_be = |operand: &Expr| match operand {
        Expr::Literal(value, _) => is_nested_with_forms(&value.data_type()),
        _ => true,
    };
    may_be(left) && may_be(right)
}

/// Returns the comparison of lists or rows with their numbers in one form; `None` if they have no numbers with several.
pub(super) fn compare_nested(operation: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let one_form = |value: &Expr| in_one_form_if(value, schema, is_nested_with_forms);
    let (left, right) = (one_form(&operation.left), one_form(&operation.right));
    if left.is_none() && right.is_none() {
        return None;
    }
    Some(binary_expr(
        left.unwrap_or_else(|| (*operation.left).clone()),
        operation.op,
        right.unwrap_or_else(|| (*operation.right).clone()),
    ))
}

/// Returns `nullif(a, b)` of values with several forms as `CASE WHEN a = b …`.
pub(super) fn null_if_equal(call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    let [value, other] = &*call.args else {
        return Ok(None);
    };
    let Some(kind) = type_of(value, schema).filter(has_several_forms) else {
        return Ok(None);
    };
    if value.is_volatile() || !has_forms(other, schema) {
        return Ok(None);
    }
    let null = ScalarValue::try_new_null(&kind)?;
    let is_equal = equal(value, other, schema);
    Ok(Some(when(is_equal, lit(null)).otherwise(value.clone())?))
}

/// Returns `CASE a WHEN b …` of values with several forms as `CASE WHEN a = b …`.
pub(super) fn searched_case(case: &Case, schema: &DFSchema) -> Option<Expr> {
    let value = case.expr.as_ref()?;
    if !has_forms(value, schema) || value.is_volatile() {
        return None;
    }
    let branches = case
        .when_then_expr
        .iter()
        .map(|(key, result)| (Box::new(equal(value, key, schema)), result.clone()));
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

/// Returns `IN (SELECT …)` with both sides in one form; `None` if they have one already. It becomes a join.
pub(super) fn within_in_one_form(within: &InSubquery, schema: &DFSchema) -> Result<Option<Expr>> {
    let Some(value) = in_one_form(&within.expr, schema) else {
        return Ok(None);
    };
    let query = &within.subquery.subquery;
    let query = columns_in_one_form(query, has_several_forms)?;
    let subquery = within.subquery.with_plan(Arc::new(query));
    Ok(Some(Expr::InSubquery(InSubquery::new(
        Box::new(value),
        subquery,
        within.negated,
    ))))
}

/// Whether a window function may have keys with several forms.
pub(super) fn has_keys(call: &WindowFunction) -> bool {
    !call.params.partition_by.is_empty() || !call.params.order_by.is_empty()
}

/// Returns the window function with keys in one form; `None` if they have one already.
pub(super) fn window_in_one_form(call: &WindowFunction, schema: &DFSchema) -> Option<Expr> {
    let mut replaced = call.clone();
    let mut is_replaced = false;
    let partition_by = replaced.params.partition_by.iter_mut();
    let order_by = replaced.params.order_by.iter_mut().map(|key| &mut key.expr);
    for key in partition_by.chain(order_by) {
        if let Some(one_form) = in_one_form(key, schema) {
            *key = one_form;
            is_replaced = true;
        }
    }
    is_replaced.then(|| Expr::WindowFunction(Box::new(replaced)))
}

/// Returns an aggregate of distinct values with values in one form; `None` if they have one already.
pub(super) fn aggregate_in_one_form(call: &AggregateFunction, schema: &DFSchema) -> Option<Expr> {
    if !call.params.distinct {
        return None;
    }
    let mut replaced = call.clone();
    let mut is_replaced = false;
    let order_by = replaced.params.order_by.iter_mut().map(|key| &mut key.expr);
    for value in replaced.params.args.iter_mut().chain(order_by) {
        if !matches!(value, Expr::Literal(..))
            && let Some(one_form) = in_one_form(value, schema)
        {
            *value = one_form;
            is_replaced = true;
        }
    }
    is_replaced.then_some(Expr::AggregateFunction(replaced))
}

/// Returns which types of the step's keys get one form; `None` if it has no keys by which rows are equal.
pub(super) fn forms_of_keys(node: &LogicalPlan) -> Option<fn(&DataType) -> bool> {
    match node {
        LogicalPlan::Join(step) if !step.on.is_empty() => Some(has_several_forms),
        LogicalPlan::Aggregate(step) if !step.group_expr.is_empty() => Some(is_grouped_by_form),
        LogicalPlan::Distinct(_) => Some(is_grouped_by_form),
        _ => None,
    }
}

/// Returns the key in one form; `None` if it has one already, or is no key.
pub(super) fn key_in_one_form(
    key: &Expr,
    schema: &DFSchema,
    is_wanted: fn(&DataType) -> bool,
) -> Option<Expr> {
    match key.clone().unalias() {
        Expr::AggregateFunction(_) => None,
        _ => in_one_form_if(key, schema, is_wanted),
    }
}

/// Returns the step with rows that are equal as far as Arrow knows if their values are; other nodes unchanged.
pub(super) fn distinct_in_one_form(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Distinct(Distinct::All(input)) = &node else {
        return Ok(Transformed::no(node));
    };
    let schema = input.schema();
    if !schema
        .fields()
        .iter()
        .any(|field| is_grouped_by_form(field.data_type()))
    {
        return Ok(Transformed::no(node));
    }
    let input = columns_in_one_form(input, is_grouped_by_form)?;
    let distinct = Distinct::All(Arc::new(input));
    Ok(Transformed::yes(LogicalPlan::Distinct(distinct)))
}

/// Returns the plan with columns of these types in one form.
fn columns_in_one_form(
    plan: &Arc<LogicalPlan>,
    is_wanted: fn(&DataType) -> bool,
) -> Result<LogicalPlan> {
    let schema = plan.schema();
    let columns = schema.iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        match in_one_form_if(&column, schema, is_wanted) {
            Some(one_form) => one_form.alias_qualified(qualifier.cloned(), field.name()),
            None => column,
        }
    });
    let projection = Projection::try_new(columns.collect(), Arc::clone(plan))?;
    Ok(LogicalPlan::Projection(projection))
}

/// Whether the rows of a sort that are equal in one key are sorted by another.
pub(super) fn has_ties(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Sort(step) if step.expr.len() > 1)
}

/// Returns the sort with keys in one form. The order of rows that are equal in all keys does not matter, so that a last key
/// that is a number stays.
pub(super) fn sort_in_one_form(node: LogicalPlan) -> Transformed<LogicalPlan> {
    let LogicalPlan::Sort(mut step) = node else {
        return Transformed::no(node);
    };
    let mut is_replaced = false;
    if let Some((_, keys)) = step.expr.split_last_mut() {
        for key in keys {
            if let Some(one_form) = in_one_form(&key.expr, step.input.schema()) {
                key.expr = one_form;
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
