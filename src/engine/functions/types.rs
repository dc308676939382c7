//! Limits of types. The nulls of some types take as much memory as their values.

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};

/// The maximum number of values of a type of fixed size.
const MAX_FIXED_SIZE: i32 = 1 << 16;
/// The maximum number of types that a type consists of.
const MAX_PARTS: usize = 1_000;
/// The maximum length of the name of a type in bytes. Arrow parses it by recursion: a long one overflows the stack.
const MAX_TYPE_NAME_BYTES: usize = 1_000;
/// Functions whose second argument is the name of a type.
const NAME_TYPES: [&str; 2] = ["arrow_cast", "arrow_try_cast"];

/// Refuses types whose nulls would take too much memory, and types with too many parts: a struct of two structs of two
/// structs, and so on, grows exponentially.
pub(in crate::engine) fn check_type(kind: &DataType) -> Result<()> {
    let mut size = 1;
    match count_parts(kind, 0, &mut size)? {
        0..=MAX_PARTS => Ok(()),
        _ => Err(DataFusionError::Plan(format!(
            "a type must consist of at most {MAX_PARTS} nested types"
        ))),
    }
}

/// Refuses a call of a function whose second argument names a type, if the name is too long to be parsed.
pub(super) fn check_named_type(function: &str, arguments: &[Option<&ScalarValue>]) -> Result<()> {
    if !NAME_TYPES.contains(&function) {
        return Ok(());
    }
    let name = arguments
        .get(1)
        .copied()
        .flatten()
        .and_then(|name| name.try_as_str()?);
    match name {
        Some(name) if name.len() > MAX_TYPE_NAME_BYTES => Err(DataFusionError::Plan(format!(
            "the name of a type must have at most {MAX_TYPE_NAME_BYTES} bytes, not {}",
            name.len()
        ))),
        _ => Ok(()),
    }
}

/// Returns the number of types that the type consists of. `size` is the number of values that a null takes so far.
fn count_parts(kind: &DataType, within: usize, size: &mut i64) -> Result<usize> {
    if within > MAX_PARTS {
        return Ok(within);
    }
    if let DataType::FixedSizeBinary(length) | DataType::FixedSizeList(_, length) = kind {
        // The sizes of nested lists of fixed size are multiplied.
        *size = size.saturating_mul(i64::from(*length).max(1));
        if *size > i64::from(MAX_FIXED_SIZE) {
            return Err(DataFusionError::Plan(format!(
                "a type of fixed size must have at most {MAX_FIXED_SIZE} values, not {size}"
            )));
        }
    }
    match kind {
        DataType::FixedSizeList(field, _)
        | DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::Map(field, _) => count_parts(field.data_type(), within + 1, size),
        DataType::Struct(fields) => fields.iter().try_fold(within + 1, |within, field| {
            count_parts(field.data_type(), within, &mut size.clone())
        }),
        DataType::Dictionary(key, value) => {
            count_parts(key, within + 1, size)?;
            count_parts(value, within + 1, size)
        }
        _ => Ok(within + 1),
    }
}
