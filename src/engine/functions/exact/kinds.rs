//! Types of expressions in a plan.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::operators::known_type;

/// Returns the type of an expression; `None` if it is unknown.
pub(super) fn type_of(expression: &Expr, schema: &DFSchema) -> Option<DataType> {
    known_type(expression).or_else(|| expression.get_type(schema).ok())
}
