//! Checks that wrap arguments and operators of an expression, as functions that return their argument unchanged.
//!
//! Parsers of numbers, times and booleans get no long texts. Arrow reads the digits of a decimal by recursion, about 38
//! at a time, so a text of millions of digits would overflow the stack; other parsers would take seconds, during which
//! they cannot be cancelled. If a plan has many operators that copy texts, every fourth is followed by a check whether
//! the statement must stop.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, make_array};
use arrow::compute::{kernels::length::length, nullif};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::engine::limits::cancellation::check_interruption;

/// The maximum size of a text that is parsed as a number, a time or a format, in bytes. A decimal has at most 76
/// digits.
const MAX_PARSED_TEXT_BYTES: usize = 4 << 10;
/// Functions that cast their first argument.
const CASTS: [&str; 4] = [
    "arrow_cast",
    "arrow_try_cast",
    "cast_to_type",
    "try_cast_to_type",
];
/// Functions that parse texts or formats.
const PARSERS: [&str; 9] = [
    "to_char",
    "to_date",
    "to_time",
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
    "to_unixtime",
];

/// Whether the expression may parse a long text. `schema` is the schema of its columns, if it is known.
pub(super) fn may_parse_long_texts(part: &Expr, schema: Option<&DFSchema>) -> bool {
    match part {
        Expr::Cast(cast) => {
            has_values(cast.field.data_type()) && may_be_long_text(&cast.expr, schema)
        }
        Expr::TryCast(cast) => {
            has_values(cast.field.data_type()) && may_be_long_text(&cast.expr, schema)
        }
        Expr::ScalarFunction(call) if CASTS.contains(&call.func.name()) => call
            .args
            .first()
            .is_some_and(|first| may_be_long_text(first, schema)),
        Expr::ScalarFunction(call) if PARSERS.contains(&call.func.name()) => {
            call.args.iter().any(|text| may_be_long_text(text, schema))
        }
        _ => false,
    }
}

/// Returns the cast or the call with a length check around each text that it parses.
pub(super) fn check_text_lengths(part: Expr, schema: Option<&DFSchema>) -> Transformed<Expr> {
    if !may_parse_long_texts(&part, schema) {
        return Transformed::no(part);
    }
    Transformed::yes(match part {
        Expr::Cast(mut cast) => {
            *cast.expr = with_check(*cast.expr, Check::FailIfLong);
            Expr::Cast(cast)
        }
        Expr::TryCast(mut cast) => {
            *cast.expr = with_check(*cast.expr, Check::NullIfLong);
            Expr::TryCast(cast)
        }
        Expr::ScalarFunction(mut call) => {
            let check = match call.func.name().contains("try") {
                true => Check::NullIfLong,
                false => Check::FailIfLong,
            };
            let is_cast = CASTS.contains(&call.func.name());
            for text in call
                .args
                .iter_mut()
                .take(if is_cast { 1 } else { usize::MAX })
            {
                if may_be_long_text(text, schema) {
                    *text = with_check(std::mem::take(text), check);
                }
            }
            Expr::ScalarFunction(call)
        }
        part => part,
    })
}

/// Whether the expression is an operator that may copy all texts of a batch.
pub(super) fn copies_texts(part: &Expr) -> bool {
    match part {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => *op == Operator::StringConcat,
        Expr::Cast(cast) => has_texts(cast.field.data_type()),
        Expr::TryCast(cast) => has_texts(cast.field.data_type()),
        _ => false,
    }
}

/// Returns the operator, followed by a check whether the statement must stop.
pub(super) fn with_interruption_check(part: Expr) -> Expr {
    with_check(part, Check::FailIfInterrupted)
}

/// Whether the expression may be a long text, or a list or struct of long texts.
fn may_be_long_text(text: &Expr, schema: Option<&DFSchema>) -> bool {
    match text {
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(text) => text.is_some_and(|text| text.len() > MAX_PARSED_TEXT_BYTES),
            None => has_texts(&value.data_type()) && value.size() > MAX_PARSED_TEXT_BYTES,
        },
        Expr::Cast(cast) => has_texts(cast.field.data_type()),
        Expr::TryCast(cast) => has_texts(cast.field.data_type()),
        Expr::BinaryExpr(BinaryExpr { op, .. }) => {
            matches!(op, Operator::StringConcat)
        }
        Expr::Negative(_) | Expr::Not(_) => false,
        Expr::ScalarFunction(call) if is_length_check(&call.func) => false,
        text => schema
            .and_then(|schema| text.get_type(schema).ok())
            .is_none_or(|kind| has_texts(&kind)),
    }
}

/// Whether any part of the type is text.
fn has_texts(kind: &DataType) -> bool {
    any_part(kind, &|part| part.is_string() || part.is_binary())
}

/// Whether any part of the type is a value that is parsed from text.
fn has_values(kind: &DataType) -> bool {
    any_part(kind, &|part| {
        !(part.is_string() || part.is_binary() || part.is_nested())
    })
}

fn any_part(kind: &DataType, predicate: &dyn Fn(&DataType) -> bool) -> bool {
    predicate(kind)
        || match kind {
            DataType::Struct(fields) => fields
                .iter()
                .any(|field| any_part(field.data_type(), predicate)),
            DataType::Dictionary(_, values) => any_part(values, predicate),
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => any_part(field.data_type(), predicate),
            DataType::RunEndEncoded(_, values) => any_part(values.data_type(), predicate),
            // The type of a value is not known during planning.
            DataType::Union(..) => true,
            _ => false,
        }
}

fn is_length_check(function: &ScalarUDF) -> bool {
    let check = function.inner().downcast_ref::<CheckFunction>();
    check.is_some_and(|function| function.check != Check::FailIfInterrupted)
}

fn with_check(part: Expr, check: Check) -> Expr {
    let function = CheckFunction {
        check,
        signature: Signature::any(1, Volatility::Immutable),
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::new(ScalarUDF::from(function)),
        vec![part],
    ))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Check {
    /// Fails if a text is long.
    FailIfLong,
    /// A long text becomes NULL.
    NullIfLong,
    /// Fails if the statement must stop.
    FailIfInterrupted,
}

/// Returns its argument after a check.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckFunction {
    check: Check,
    signature: Signature,
}

impl CheckFunction {
    fn check_lengths(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match long_texts(values)? {
            Some(long) if self.check == Check::NullIfLong && long.len() == values.len() => {
                Ok(nullif(values, &long)?)
            }
            Some(_) => Err(DataFusionError::Execution(format!(
                "cannot parse a text of more than {MAX_PARSED_TEXT_BYTES} bytes as a number, a time or a format; shorten it"
            ))),
            None => Ok(Arc::clone(values)),
        }
    }
}

/// Returns which texts are long; `None` if none is, including those in lists and structs. If a list or struct contains
/// a long text, the result is empty.
fn long_texts(values: &ArrayRef) -> Result<Option<BooleanArray>> {
    if values.data_type().is_string() || values.data_type().is_binary() {
        let lengths = arrow::compute::cast(&length(values)?, &DataType::Int64)?;
        let lengths = lengths.as_primitive::<Int64Type>();
        let is_long = |length: Option<i64>| {
            length.is_some_and(|length| length > MAX_PARSED_TEXT_BYTES as i64)
        };
        let long: BooleanArray = lengths.iter().map(|length| Some(is_long(length))).collect();
        return Ok((long.true_count() > 0).then_some(long));
    }
    for inner in values.to_data().child_data() {
        let long = long_texts(&make_array(inner.clone()))?;
        if long.is_some() {
            // An empty array says only that there is one.
            return Ok(Some(BooleanArray::from(Vec::<bool>::new())));
        }
    }
    Ok(None)
}

impl ScalarUDFImpl for CheckFunction {
    fn name(&self) -> &str {
        match self.check {
            Check::FailIfLong | Check::NullIfLong => "short_texts",
            Check::FailIfInterrupted => "checkpoint",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        match kinds {
            [kind] => Ok(kind.clone()),
            _ => internal_err!("expected exactly one argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [field] = args.arg_fields else {
            return internal_err!("expected exactly one argument");
        };
        let is_nullable = self.check == Check::NullIfLong || field.is_nullable();
        Ok(Arc::new(Field::new(
            self.name(),
            field.data_type().clone(),
            is_nullable,
        )))
    }

    fn invoke_with_args(&self, mut call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check_interruption()?;
        let Some(value) = call.args.pop() else {
            return internal_err!("expected exactly one argument");
        };
        Ok(match value {
            value if self.check == Check::FailIfInterrupted => value,
            ColumnarValue::Array(values) => ColumnarValue::Array(self.check_lengths(&values)?),
            ColumnarValue::Scalar(value) => {
                let checked = self.check_lengths(&value.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&checked, 0)?)
            }
        })
    }
}
