//! `string_agg` beside another aggregate with another `ORDER BY`. DataFusion sorts the input of all such aggregates in one order,
//! except for `array_agg`, which sorts by itself.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_nested::expr_fn::array_to_string;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};

/// The beginning of the names of lists of texts.
const LIST: &str = "__texts_";

/// Whether the node has a `string_agg` with an order that another aggregate does not have.
pub(super) fn has_orders(node: &LogicalPlan) -> bool {
    let LogicalPlan::Aggregate(step) = node else {
        return false;
    };
    let mut calls = step.aggr_expr.iter().filter_map(ordered_call);
    let Some(first) = calls.next() else {
        return false;
    };
    let has_other = calls.any(|call| call.params.order_by != first.params.order_by);
    has_other
        && step
            .aggr_expr
            .iter()
            .any(|value| ordered_call(value).is_some_and(is_of_texts))
}

/// Returns the call of an aggregate with `ORDER BY`.
fn ordered_call(value: &Expr) -> Option<&AggregateFunction> {
    match value {
        Expr::Alias(alias) => ordered_call(&alias.expr),
        Expr::AggregateFunction(call) if !call.params.order_by.is_empty() => Some(call),
        _ => None,
    }
}

fn is_of_texts(call: &AggregateFunction) -> bool {
    call.func.name() == "string_agg" && call.params.args.len() == 2
}

/// Returns the node with `array_to_string(array_agg(…))` for each ordered `string_agg`, if their orders differ.
pub(super) fn with_lists(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !has_orders(&node) {
        return Ok(Transformed::no(node));
    }
    let LogicalPlan::Aggregate(step) = node else {
        return Ok(Transformed::no(node));
    };
    let keys = step.schema.fields().len() - step.aggr_expr.len();
    let mut columns: Vec<Expr> = (step.schema.iter().take(keys))
        .map(|named| Expr::Column(Column::from(named)))
        .collect();
    let mut values = Vec::with_capacity(step.aggr_expr.len());
    for (at, value) in step.aggr_expr.iter().enumerate() {
        let (qualifier, field) = step.schema.qualified_field(keys + at);
        let list = ordered_call(value).filter(|call| is_of_texts(call));
        match list.and_then(list_of_texts) {
            Some((list, separator)) => {
                let name = format!("{LIST}{at}");
                let texts = Expr::Column(Column::new_unqualified(name.clone()));
                let joined = array_to_string(texts, separator);
                let joined = Cast::new(Box::new(joined), field.data_type().clone());
                columns.push(Expr::Cast(joined).alias_qualified(qualifier.cloned(), field.name()));
                values.push(list.alias(name));
            }
            None => {
                columns.push(Expr::Column(Column::from((qualifier, field))));
                values.push(value.clone());
            }
        }
    }
    let step = Aggregate::try_new(Arc::clone(&step.input), step.group_expr, values)?;
    let step = Projection::try_new(columns, Arc::new(LogicalPlan::Aggregate(step)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(step)))
}

/// Returns the list of the texts that are not null, and the separator.
fn list_of_texts(call: &AggregateFunction) -> Option<(Expr, Expr)> {
    let [text, separator] = &*call.params.args else {
        return None;
    };
    let mut list = call.clone();
    list.func = array_agg_udaf();
    list.params.args = vec![text.clone()];
    let is_text = text.clone().is_not_null();
    list.params.filter = Some(Box::new(match list.params.filter.take() {
        Some(filter) => filter.and(is_text),
        None => is_text,
    }));
    Some((Expr::AggregateFunction(list), separator.clone()))
}
