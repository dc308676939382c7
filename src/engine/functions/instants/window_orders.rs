//! Windows that are ordered by intervals or differences of times. DataFusion refuses them, because it knows no frame of a range of
//! such values, and would compare months before days.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::intervals::length_of;
use crate::engine::functions::exact::days_and_time;
use crate::engine::named_expressions::map_named_expressions;

/// Orders the rows of windows by the lengths of intervals. It comes before the coercion of types, which refuses them.
#[derive(Debug)]
pub(in crate::engine) struct WindowOrders;

impl AnalyzerRule for WindowOrders {
    fn name(&self) -> &str {
        "window_orders"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Window(window) = &node else {
                return Ok(Transformed::no(node));
            };
            let schema = Arc::clone(window.input.schema());
            map_named_expressions(node, |expression| {
                expression.transform_up(|part| Ok(with_lengths(part, &schema)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        });
        rewritten.map(|rewritten| rewritten.data)
    }
}

fn with_lengths(part: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let Expr::WindowFunction(mut call) = part else {
        return Transformed::no(part);
    };
    let mut is_rewritten = false;
    for key in &mut call.params.order_by {
        let inner = match key.expr.get_type(schema) {
            Ok(DataType::Interval(_)) => std::mem::take(&mut key.expr),
            Ok(DataType::Duration(_)) => days_and_time(std::mem::take(&mut key.expr)),
            _ => continue,
        };
        key.expr = length_of(inner);
        is_rewritten = true;
    }
    Transformed::new_transformed(Expr::WindowFunction(call), is_rewritten)
}
