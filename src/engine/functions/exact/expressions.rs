//! Operators with wrong results, and the expressions that replace them.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, LogicalPlan, Operator, binary_expr, lit, not,
};

use super::days::{compare_day, may_compare_days};
use super::equality::{compare_nested, is_zero, may_be_nested, searched_case, within_in_one_form};
use super::kinds::type_of;
use super::lists::{may_be_search, not_in_constant};
use super::members::replace_list;
use super::operators::{Exact, PART_OF_DAY, has_part_of_day};
use super::rows::{compare_rows, row_values};
use super::simplified::{is_any_text, match_any_text, may_be_intersected, without_intersection};
use crate::engine::comparisons::is_comparison;

/// Whether the expression may have to be replaced. The types of its operands decide that.
pub(super) fn is_replaced_operator(part: &Expr) -> bool {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::BitwiseXor => true,
            Operator::Eq | Operator::NotEq
                if row_values(left).is_some() && row_values(right).is_some() =>
            {
                true
            }
            Operator::And | Operator::Or => may_be_intersected(right),
            op if is_any_text(*op, right) => true,
            op if is_comparison(*op) && may_be_nested(left, right) => true,
            _ => may_compare_days(left, right),
        },
        Expr::Negative(value) => !matches!(**value, Expr::Literal(..)),
        Expr::Between(between) => may_compare_days(&between.expr, &between.low),
        Expr::InList(list) => {
            matches!(*list.expr, Expr::ScalarFunction(_) | Expr::Cast(_))
                || list
                    .list
                    .iter()
                    .any(|value| is_zero(value) || !matches!(value, Expr::Literal(..)))
        }
        Expr::Case(case) => case.expr.is_some() || may_be_search(case),
        Expr::Exists(_) | Expr::InSubquery(_) => true,
        _ => false,
    }
}

/// Returns the expression that replaces the operator; `None` if its result is right.
///
/// # Errors
/// A plan error if there is no right result; it says what to use instead.
pub(super) fn replace_operator(part: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    Ok(match part {
        Expr::BinaryExpr(operation) => replace_binary(operation, schema)?,
        Expr::Negative(value) => match type_of(value, schema) {
            Some(kind) if kind.is_signed_integer() => {
                Some(Exact::Negation(kind).call(vec![(**value).clone()]))
            }
            _ => None,
        },
        Expr::Between(between) => day_between(between, schema),
        Expr::InList(list) => replace_list(list, schema),
        Expr::InSubquery(within) => within_in_one_form(within, schema)?,
        Expr::Case(case) if may_be_search(case) => not_in_constant(case),
        Expr::Case(case) => searched_case(case, schema),
        // An aggregate without groups has one row, whatever it aggregates (apache/datafusion#15032 and its kind).
        Expr::Exists(exists) => is_one_row(&exists.subquery.subquery).then(|| lit(!exists.negated)),
        _ => None,
    })
}

fn replace_binary(operation: &BinaryExpr, schema: &DFSchema) -> Result<Option<Expr>> {
    let BinaryExpr { left, op, right } = operation;
    match op {
        Operator::BitwiseXor => plan_err!(
            "the operator ^ is not supported, because it means a power in Postgres and an exclusive or elsewhere: use power(a, b), or (a | b) - (a & b)"
        ),
        Operator::Plus | Operator::Minus | Operator::Multiply => {
            replace_arithmetic(operation, schema)
        }
        Operator::And | Operator::Or => Ok(without_intersection(operation, schema)),
        op if is_any_text(*op, right) => match_any_text(operation).map(Some),
        op => Ok(compare_rows(left, *op, right)
            .or_else(|| compare_day(operation, schema))
            .or_else(|| compare_nested(operation, schema).filter(|_| is_comparison(*op)))),
    }
}

fn replace_arithmetic(operation: &BinaryExpr, schema: &DFSchema) -> Result<Option<Expr>> {
    let BinaryExpr { left, op, right } = operation;
    // Both sides of an operator of numbers have the same kind of type, and the right side is the shallow one in a long sum.
    let Some(of_right) = type_of(right, schema) else {
        return Ok(None);
    };
    let kind = match &of_right {
        kind if kind.is_integer() => type_of(left, schema).filter(|left| left == kind),
        DataType::Decimal128(..) => type_of(left, schema).and_then(|of_left| {
            let coercer = BinaryTypeCoercer::new(&of_left, op, &of_right);
            let kind = coercer.get_result_type().ok()?;
            matches!(kind, DataType::Decimal128(..)).then_some(kind)
        }),
        DataType::Interval(_) => {
            let is_date = matches!(
                type_of(left, schema),
                Some(DataType::Date32 | DataType::Date64)
            );
            return match is_date {
                true => add_to_date(operation),
                false => Ok(None),
            };
        }
        _ => None,
    };
    let arguments = || vec![(**left).clone(), (**right).clone()];
    Ok(kind.map(|kind| Exact::Arithmetic(*op, kind).call(arguments())))
}

fn add_to_date(operation: &BinaryExpr) -> Result<Option<Expr>> {
    match &*operation.right {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(span), _) => match span {
            Some(span) if has_part_of_day(*span) => plan_err!("{PART_OF_DAY}"),
            _ => Ok(None),
        },
        Expr::ScalarFunction(_) => Ok(None),
        span => {
            let span = Exact::WholeDays.call(vec![span.clone()]);
            Ok(Some(binary_expr(
                (*operation.left).clone(),
                operation.op,
                span,
            )))
        }
    }
}

fn comparison(left: &Expr, op: Operator, right: &Expr) -> BinaryExpr {
    BinaryExpr::new(Box::new(left.clone()), op, Box::new(right.clone()))
}

/// Returns whether a time is between the starts of days; `None` if other values are compared.
fn day_between(between: &Between, schema: &DFSchema) -> Option<Expr> {
    let low = comparison(&between.expr, Operator::GtEq, &between.low);
    let high = comparison(&between.expr, Operator::LtEq, &between.high);
    let found = compare_day(&low, schema)?.and(compare_day(&high, schema)?);
    Some(match between.negated {
        true => not(found),
        false => found,
    })
}

/// Whether the query has exactly one row, whatever its tables contain.
fn is_one_row(query: &LogicalPlan) -> bool {
    match query {
        LogicalPlan::Projection(step) => is_one_row(&step.input),
        LogicalPlan::SubqueryAlias(step) => is_one_row(&step.input),
        LogicalPlan::Sort(step) => step.fetch != Some(0) && is_one_row(&step.input),
        LogicalPlan::Aggregate(step) => step.group_expr.is_empty(),
        _ => false,
    }
}
