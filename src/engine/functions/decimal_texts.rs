//! Texts that are cast to decimals: none is long. Arrow reads the digits of a decimal by recursion, some 38 at a time, so that a
//! text of millions of digits overflows the stack, which ends the process.

use arrow::array::{Array, ArrayRef, BooleanArray, make_array};
use arrow::compute::{kernels::length::length, nullif};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

/// The maximum size of a text that is cast to a decimal, in bytes: a decimal has 76 digits.
const MAX_DECIMAL_TEXT_BYTES: i64 = 4 << 10;
/// Functions that cast their first argument.
const CASTS: [&str; 4] = [
    "arrow_cast",
    "arrow_try_cast",
    "cast_to_type",
    "try_cast_to_type",
];

/// Whether the expression may cast texts to decimals.
pub(super) fn may_cast_texts(part: &Expr) -> bool {
    match part {
        Expr::Cast(cast) => has_decimals(cast.field.data_type()),
        Expr::TryCast(cast) => has_decimals(cast.field.data_type()),
        Expr::ScalarFunction(call) => CASTS.contains(&call.func.name()),
        _ => false,
    }
}

/// The cast, of texts that are not too long.
pub(super) fn of_short_texts(part: Expr) -> Expr {
    if !may_cast_texts(&part) {
        return part;
    }
    match part {
        Expr::Cast(mut cast) => {
            *cast.expr = short(*cast.expr, false);
            Expr::Cast(cast)
        }
        Expr::TryCast(mut cast) => {
            *cast.expr = short(*cast.expr, true);
            Expr::TryCast(cast)
        }
        Expr::ScalarFunction(mut call) => {
            let is_try = call.func.name().contains("try");
            if let Some(first) = call.args.first_mut() {
                *first = short(std::mem::take(first), is_try);
            }
            Expr::ScalarFunction(call)
        }
        part => part,
    }
}

fn short(texts: Expr, is_try: bool) -> Expr {
    let function = ShortTexts {
        is_try,
        signature: Signature::any(1, Volatility::Immutable),
    };
    let is_short = matches!(
        &texts,
        Expr::ScalarFunction(call) if call.func.inner().is::<ShortTexts>()
    );
    match is_short {
        true => texts,
        false => Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::new(ScalarUDF::from(function)),
            vec![texts],
        )),
    }
}

fn has_decimals(kind: &DataType) -> bool {
    kind.is_decimal()
        || match kind {
            DataType::Struct(fields) => fields.iter().any(|field| has_decimals(field.data_type())),
            DataType::Dictionary(_, values) => has_decimals(values),
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => has_decimals(field.data_type()),
            DataType::RunEndEncoded(_, values) => has_decimals(values.data_type()),
            _ => false,
        }
}

/// Its argument as it is, if no text in it is long.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ShortTexts {
    /// Whether a long text becomes NULL, instead of an error.
    is_try: bool,
    signature: Signature,
}

impl ShortTexts {
    fn checked(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match long_texts(values)? {
            Some(long) if self.is_try && long.len() == values.len() => Ok(nullif(values, &long)?),
            Some(_) => Err(DataFusionError::Execution(format!(
                "a text of more than {MAX_DECIMAL_TEXT_BYTES} bytes is no decimal"
            ))),
            None => Ok(Arc::clone(values)),
        }
    }
}

/// Which texts are long; none if no text is, in any list or struct either.
fn long_texts(values: &ArrayRef) -> Result<Option<BooleanArray>> {
    if values.data_type().is_string() || values.data_type().is_binary() {
        let lengths = arrow::compute::cast(&length(values)?, &DataType::Int64)?;
        let lengths = lengths.to_data();
        let lengths = arrow::array::Int64Array::from(lengths);
        let is_long = |length: Option<i64>| length.is_some_and(|it| it > MAX_DECIMAL_TEXT_BYTES);
        let long: BooleanArray = lengths.iter().map(|length| Some(is_long(length))).collect();
        return Ok((long.true_count() > 0).then_some(long));
    }
    for inner in values.to_data().child_data() {
        let long = long_texts(&make_array(inner.clone()))?;
        if long.is_some() {
            // Not which of these, but that there is one.
            return Ok(Some(BooleanArray::from(Vec::<bool>::new())));
        }
    }
    Ok(None)
}

impl ScalarUDFImpl for ShortTexts {
    fn name(&self) -> &str {
        "short_texts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        match kinds {
            [kind] => Ok(kind.clone()),
            _ => internal_err!("there is one argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [field] = args.arg_fields else {
            return internal_err!("there is one argument");
        };
        let is_nullable = self.is_try || field.is_nullable();
        Ok(Arc::new(Field::new(
            self.name(),
            field.data_type().clone(),
            is_nullable,
        )))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match call.args.first() {
            Some(ColumnarValue::Array(values)) => ColumnarValue::Array(self.checked(values)?),
            Some(ColumnarValue::Scalar(value)) => {
                let checked = self.checked(&value.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&checked, 0)?)
            }
            None => return internal_err!("there is one argument"),
        })
    }
}
