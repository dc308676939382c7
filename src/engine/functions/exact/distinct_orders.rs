//! Aggregates of distinct values with `ORDER BY`. DataFusion simplifies the argument, but not the equal expression in `ORDER BY`,
//! and then refuses the order of another expression. A value that is computed before is a column in both places.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The beginning of the names of computed values.
const VALUE: &str = "__distinct_value_";

/// Whether the node has an aggregate of distinct values that are computed and ordered.
pub(super) fn has_ordered_values(node: &LogicalPlan) -> bool {
    let is_ordered = |value: &Expr| {
        value
            .exists(|part| Ok(matches!(part, Expr::AggregateFunction(call) if is_computed(call))))
            .unwrap_or_default()
    };
    matches!(node, LogicalPlan::Aggregate(step) if step.aggr_expr.iter().any(is_ordered))
}

fn is_computed(call: &AggregateFunction) -> bool {
    let value = call.params.args.first();
    call.params.distinct
        && !call.params.order_by.is_empty()
        && value.is_some_and(|value| !matches!(value, Expr::Column(_) | Expr::Literal(..)))
}

/// Returns the node with the values as columns of its input; other nodes unchanged.
pub(super) fn with_value_columns(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !has_ordered_values(&node) {
        return Ok(Transformed::no(node));
    }
    let names = NamePreserver::new(&node);
    let LogicalPlan::Aggregate(step) = node else {
        return Ok(Transformed::no(node));
    };
    let mut columns: Vec<Expr> = step
        .input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let mut aggregates = Vec::with_capacity(step.aggr_expr.len());
    for aggregate in step.aggr_expr {
        let name = names.save(&aggregate);
        let replaced = aggregate.transform_down(|part| match part {
            Expr::AggregateFunction(call) if is_computed(&call) => {
                let (call, value) = with_column(call, format!("{VALUE}{}", columns.len()));
                columns.extend(value);
                let call = Expr::AggregateFunction(call);
                Ok(Transformed::new(call, true, TreeNodeRecursion::Jump))
            }
            part => Ok(Transformed::no(part)),
        })?;
        aggregates.push(name.restore(replaced.data));
    }
    let input = Projection::try_new(columns, step.input)?;
    let input = Arc::new(LogicalPlan::Projection(input));
    let step = Aggregate::try_new(input, step.group_expr, aggregates)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(step)))
}

/// Returns the call with a column for its first argument, and the value of that column.
fn with_column(mut call: AggregateFunction, name: String) -> (AggregateFunction, Option<Expr>) {
    let column = Expr::Column(Column::new_unqualified(&name));
    let Some(argument) = call.params.args.first_mut() else {
        return (call, None);
    };
    let value = std::mem::replace(argument, column.clone());
    for key in &mut call.params.order_by {
        if key.expr == value {
            key.expr = column.clone();
        }
    }
    (call, Some(value.alias(name)))
}
