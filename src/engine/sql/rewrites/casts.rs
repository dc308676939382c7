//! Types of casts. The planner ignores the length of texts and the precision of `FLOAT`, and does not know some names.

use datafusion::sql::sqlparser::ast::{
    CharacterLength, DataType, ExactNumberInfo, Expr, TimezoneInfo,
};

use super::template::{call, number};

/// The length of a text above which a type has no limit: no text is longer.
const MAX_LENGTH: u64 = 1 << 30;
/// The largest precision of a `FLOAT` of four bytes, in bits.
const MAX_SINGLE_BITS: u64 = 24;

/// Whether a cast to this type is rewritten to another function.
pub(super) fn is_rewritten(kind: &DataType) -> bool {
    text_length(kind).is_some_and(|length| length.is_some())
}

/// Returns the maximum length of texts of the type, if it has one; `None` for types that are not texts.
fn text_length(kind: &DataType) -> Option<Option<u64>> {
    let (DataType::Character(length)
    | DataType::Char(length)
    | DataType::CharacterVarying(length)
    | DataType::CharVarying(length)
    | DataType::Varchar(length)
    | DataType::Nvarchar(length)) = kind
    else {
        return None;
    };
    Some(match length {
        Some(CharacterLength::IntegerLength { length, unit: _ }) if *length <= MAX_LENGTH => {
            Some(*length)
        }
        _ => None,
    })
}

/// Cuts texts to the length of the type, as Postgres does, and replaces names of types that the planner does not know.
pub(super) fn rewrite_cast(expression: &mut Expr) {
    let Expr::Cast { data_type, .. } = expression else {
        return;
    };
    if let Some(length) = text_length(data_type) {
        *data_type = DataType::Varchar(None);
        if let Some(length) = length {
            let cast = std::mem::replace(expression, Expr::Tuple(Vec::new()));
            *expression = call("left", vec![cast, number(length)]);
        }
        return;
    }
    let known = match data_type {
        DataType::Float(ExactNumberInfo::Precision(bits)) if *bits > MAX_SINGLE_BITS => {
            DataType::DoublePrecision
        }
        DataType::Dec(info) => DataType::Decimal(*info),
        DataType::Datetime(None) => DataType::Timestamp(None, TimezoneInfo::None),
        _ => return,
    };
    *data_type = known;
}
