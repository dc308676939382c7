//! Casts of numbers to integers, which round as in Postgres and DuckDB: doubles half to even, constants and decimals half away
//! from zero. DataFusion drops the decimals.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Cast, Expr, TryCast};

use super::kinds::type_of;
use super::operators::Exact;

/// Whether the cast may have to round. The type of its operand decides that.
pub(super) fn is_replaced_cast(part: &Expr) -> bool {
    match part {
        Expr::Cast(cast) => cast.field.data_type().is_integer(),
        Expr::TryCast(cast) => cast.field.data_type().is_integer(),
        _ => false,
    }
}

/// Returns the cast of the rounded operand; `None` if it has no decimals.
pub(super) fn replace_cast(part: &Expr, schema: &DFSchema) -> Option<Expr> {
    Some(match part {
        Expr::Cast(cast) => {
            let rounded = Box::new(rounded(&cast.expr, schema)?);
            Expr::Cast(Cast::new_from_field(rounded, Arc::clone(&cast.field)))
        }
        Expr::TryCast(cast) => {
            let rounded = Box::new(rounded(&cast.expr, schema)?);
            Expr::TryCast(TryCast::new_from_field(rounded, Arc::clone(&cast.field)))
        }
        _ => return None,
    })
}

fn rounded(operand: &Expr, schema: &DFSchema) -> Option<Expr> {
    // A constant is a decimal in Postgres.
    if let Expr::Literal(ScalarValue::Float64(Some(value)), metadata) = operand {
        let value = ScalarValue::Float64(Some(value.round()));
        return Some(Expr::Literal(value, metadata.clone()));
    }
    let kind = type_of(operand, schema)?;
    let has_decimals = match &kind {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale > 0,
        kind => matches!(kind, DataType::Float32 | DataType::Float64),
    };
    has_decimals.then(|| Exact::Whole.call(vec![operand.clone()]))
}
