//! Casts of numbers to integers, which round as in Postgres and DuckDB: doubles half to even, constants and decimals half away
//! from zero. DataFusion drops the decimals.
//!
//! And casts of numbers to decimals and to floats with less precision, which DataFusion leaves out when it compares the result
//! with a constant (apache/datafusion#23095).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Cast, Expr, TryCast};

use super::kinds::type_of;
use super::operators::Exact;

/// Whether the cast may have to round. The type of its operand decides that.
pub(super) fn is_replaced_cast(part: &Expr) -> bool {
    match part {
        Expr::Cast(cast) => is_replaced_kind(cast.field.data_type()),
        Expr::TryCast(cast) => is_replaced_kind(cast.field.data_type()),
        _ => false,
    }
}

/// Returns the cast of the rounded operand; `None` if it has no decimals.
pub(super) fn replace_cast(part: &Expr, schema: &DFSchema) -> Option<Expr> {
    Some(match part {
        Expr::Cast(cast) if !cast.field.data_type().is_integer() => {
            narrowed(&cast.expr, cast.field.data_type(), schema)?
        }
        Expr::Cast(cast) => {
            let rounded = Box::new(rounded(&cast.expr, schema)?);
            Expr::Cast(Cast::new_from_field(rounded, Arc::clone(&cast.field)))
        }
        Expr::TryCast(cast) if cast.field.data_type().is_integer() => {
            let rounded = Box::new(rounded(&cast.expr, schema)?);
            Expr::TryCast(TryCast::new_from_field(rounded, Arc::clone(&cast.field)))
        }
        _ => return None,
    })
}

fn is_replaced_kind(kind: &DataType) -> bool {
    kind.is_integer() || kind.is_decimal() || *kind == DataType::Float32
}

/// Returns the cast as a function, into which the optimiser does not look; `None` if it keeps the number.
fn narrowed(operand: &Expr, kind: &DataType, schema: &DFSchema) -> Option<Expr> {
    if matches!(operand, Expr::Literal(..)) {
        return None;
    }
    let source = type_of(operand, schema)?;
    let is_narrower = match (&source, kind) {
        (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) => from > to,
        (source, DataType::Decimal128(..)) => source.is_floating(),
        (source, DataType::Float32) => {
            matches!(source, DataType::Float64) || source.is_decimal() || source.is_integer()
        }
        _ => false,
    };
    is_narrower.then(|| Exact::Narrowed(kind.clone()).call(vec![operand.clone()]))
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
