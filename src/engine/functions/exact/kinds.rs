//! Types of expressions in a plan, and what is refused for them.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::operators::known_type;

/// Returns the type of an expression; `None` if it is unknown.
pub(super) fn type_of(expression: &Expr, schema: &DFSchema) -> Option<DataType> {
    known_type(expression).or_else(|| expression.get_type(schema).ok())
}

/// Refuses intervals among the arguments of functions that find the greatest or the least value.
pub(super) fn refuse_intervals(name: &str, arguments: &[Expr], schema: &DFSchema) -> Result<()> {
    let mut kinds = arguments.iter().map(|argument| type_of(argument, schema));
    match kinds.any(|kind| matches!(kind, Some(DataType::Interval(_)))) {
        true => plan_err!(
            "{name} of intervals is not supported, because months, days and hours are not comparable: use {name}(extract(epoch FROM …))"
        ),
        false => Ok(()),
    }
}
