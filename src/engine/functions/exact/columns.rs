//! Columns of numbers as doubles or as integers of 128 bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::common::Result;

/// Returns the numbers as doubles.
pub(super) fn doubles(values: &ArrayRef) -> Result<Float64Array> {
    Ok(match values.data_type() {
        DataType::Float64 => values.as_primitive::<Float64Type>().clone(),
        _ => cast(values, &DataType::Float64)?
            .as_primitive::<Float64Type>()
            .clone(),
    })
}

/// Calls `each` with the row and the value of each value that is not null: of a bigint, an unsigned bigint, a decimal or a
/// duration.
pub(super) fn for_each_integer(
    values: &ArrayRef,
    mut each: impl FnMut(usize, i128) -> Result<()>,
) -> Result<()> {
    let values = match values.data_type() {
        DataType::UInt64 | DataType::Decimal128(..) | DataType::Int64 => Arc::clone(values),
        _ => cast(values, &DataType::Int64)?,
    };
    let is_null = |row| values.is_null(row);
    macro_rules! visit {
        ($kind:ty) => {
            for (row, value) in values.as_primitive::<$kind>().values().iter().enumerate() {
                if !is_null(row) {
                    each(row, i128::from(*value))?;
                }
            }
        };
    }
    match values.data_type() {
        DataType::UInt64 => visit!(UInt64Type),
        DataType::Decimal128(..) => visit!(Decimal128Type),
        _ => visit!(Int64Type),
    }
    Ok(())
}
