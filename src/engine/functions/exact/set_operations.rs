//! `EXCEPT ALL` and `INTERSECT ALL`. DataFusion plans them as joins that do not count equal rows (apache/datafusion#12955, #12956).
//!
//! Equal rows are numbered on both sides, and the numbers are compared, too: the second of three equal rows is kept by
//! `INTERSECT ALL` if the other side has two.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};

use super::one_form::in_one_form;

/// The name of the number of a row among its equals, on the left and on the right.
const NUMBERS: [&str; 2] = ["#left", "#right"];

/// Whether the join stands for `EXCEPT ALL` or `INTERSECT ALL`. Without `ALL`, its left side has distinct rows.
pub(super) fn is_counted(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Join(join) = plan else {
        return false;
    };
    let is_numbered = join
        .on
        .iter()
        .any(|(left, _)| matches!(left, Expr::Column(column) if column.name == NUMBERS[0]));
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !matches!(*join.left, LogicalPlan::Distinct(_))
        && !is_numbered
}

/// Returns the join with counts of equal rows; other plans unchanged.
pub(super) fn count_equal_rows(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !is_counted(&plan) {
        return Ok(Transformed::no(plan));
    }
    let LogicalPlan::Join(join) = plan else {
        return Ok(Transformed::no(plan));
    };
    let columns: Vec<Expr> = columns(&join.left);
    let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
    let left_keys = keys_in_one_form(left_keys, &join.left);
    let right_keys = keys_in_one_form(right_keys, &join.right);
    let [left_number, right_number] = NUMBERS;
    let left = with_numbers(&join.left, left_keys.clone(), left_number)?;
    let right = with_numbers(&join.right, right_keys.clone(), right_number)?;
    let mut on: Vec<_> = left_keys.into_iter().zip(right_keys).collect();
    let number = |name: &str| Expr::Column(Column::new_unqualified(name));
    on.push((number(left_number), number(right_number)));
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        false,
    )?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Join(join)).project(columns)?;
    Ok(Transformed::yes(plan.build()?))
}

fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    let columns = plan.schema().columns().into_iter();
    columns.map(Expr::Column).collect()
}

fn keys_in_one_form(keys: Vec<Expr>, plan: &LogicalPlan) -> Vec<Expr> {
    let keys = keys.into_iter();
    keys.map(|key| in_one_form(&key, plan.schema()).unwrap_or(key))
        .collect()
}

/// Returns the plan with a column that numbers the rows with equal keys.
fn with_numbers(plan: &Arc<LogicalPlan>, keys: Vec<Expr>, name: &str) -> Result<LogicalPlan> {
    let number = row_number().partition_by(keys).build()?;
    let column = Column::new_unqualified(number.schema_name().to_string());
    let mut columns = columns(plan);
    columns.push(Expr::Column(column).alias(name));
    LogicalPlanBuilder::new_from_arc(Arc::clone(plan))
        .window(vec![number])?
        .project(columns)?
        .build()
}
