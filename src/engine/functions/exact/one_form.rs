//! Expressions whose values have one form ([`canonical`](super::canonical)).
//!
//! NaN gets its form where it is made, because the tables contain none: comparisons of their columns stay as they are. The
//! processor's NaN of `0.0 / 0.0` is negative, and negative NaNs come before all numbers.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::canonical::{canonical_value, has_several_forms, is_nested_with_forms};
use super::kinds::type_of;
use super::operators::Exact;

/// Functions whose results may be NaN where no argument is, or lists of such results, or casts of texts.
const MAKERS_OF_NAN: [&str; 40] = [
    "acos",
    "acosh",
    "array_add",
    "array_avg",
    "array_distance",
    "array_normalize",
    "array_product",
    "array_scale",
    "array_subtract",
    "array_sum",
    "arrow_cast",
    "arrow_try_cast",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cast_to_type",
    "cbrt",
    "cos",
    "cosh",
    "cosine_distance",
    "cot",
    "exp",
    "inner_product",
    "ln",
    "log",
    "log10",
    "log2",
    "power",
    "round",
    "rounded",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "try_cast_to_type",
    "signum",
];

/// Returns the expression in one form; `None` if its values have one already.
pub(super) fn in_one_form(expression: &Expr, schema: &DFSchema) -> Option<Expr> {
    in_one_form_if(expression, schema, has_several_forms)
}

/// Returns the expression in one form if `is_wanted` is true of its type; otherwise `None`.
pub(super) fn in_one_form_if(
    expression: &Expr,
    schema: &DFSchema,
    is_wanted: fn(&DataType) -> bool,
) -> Option<Expr> {
    let kind = type_of(expression, schema).filter(is_wanted)?;
    Some(Exact::Canonical(kind).call(vec![expression.clone()]))
}

/// Whether the expression may make a NaN of another form.
pub(super) fn may_make_nan(part: &Expr) -> bool {
    match part {
        Expr::BinaryExpr(operation) => is_arithmetic(operation.op),
        Expr::Negative(value) => !matches!(**value, Expr::Literal(..)),
        Expr::ScalarFunction(call) => MAKERS_OF_NAN.contains(&call.name()),
        Expr::Cast(cast) => cast.field.data_type().is_floating(),
        Expr::TryCast(cast) => cast.field.data_type().is_floating(),
        Expr::Literal(value, _) => has_nan(value),
        _ => false,
    }
}

fn is_arithmetic(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    )
}

fn has_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float16(Some(value)) => value.is_nan(),
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        // Bound values may be lists.
        ScalarValue::List(_) | ScalarValue::LargeList(_) | ScalarValue::FixedSizeList(_) => {
            is_nested_with_forms(&value.data_type())
        }
        _ => false,
    }
}

/// Returns the expression with NaN in its one form; `None` if it makes none.
pub(super) fn with_one_nan(part: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    if let Expr::Literal(value, metadata) = part {
        let canonical = canonical_value(value)?;
        let is_same = same_bits(&canonical, value);
        return Ok((!is_same).then(|| Expr::Literal(canonical, metadata.clone())));
    }
    let is_float = |kind: &DataType| kind.is_floating();
    let is_text = |kind: &DataType| kind.is_string();
    let made = match part {
        // Numbers keep the form that they have.
        Expr::Cast(cast) => type_of(&cast.expr, schema).filter(is_text),
        Expr::TryCast(cast) => type_of(&cast.expr, schema).filter(is_text),
        // Both sides have the same type, and the right side is the shallow one in a long sum.
        Expr::BinaryExpr(operation) => type_of(&operation.right, schema).filter(is_float),
        Expr::Negative(value) => type_of(value, schema).filter(is_float),
        // The result of a function may be a list.
        other => type_of(other, schema).filter(has_several_forms),
    };
    let Some(made) = made else {
        return Ok(None);
    };
    let kind = match is_text(&made) {
        true => type_of(part, schema),
        false => Some(made),
    };
    Ok(kind.map(|kind| Exact::CanonicalNan(kind).call(vec![without_inner_forms(part)])))
}

/// Returns the arithmetic with operands as they were: a NaN passes through it, and gets its form at the end.
fn without_inner_forms(part: &Expr) -> Expr {
    let plain = |operand: &Expr| match operand {
        Expr::ScalarFunction(call) if call.name() == "canonical_nan" => match &*call.args {
            [inner] => inner.clone(),
            _ => operand.clone(),
        },
        _ => operand.clone(),
    };
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => Expr::BinaryExpr(BinaryExpr::new(
            Box::new(plain(left)),
            *op,
            Box::new(plain(right)),
        )),
        Expr::Negative(value) => Expr::Negative(Box::new(plain(value))),
        other => other.clone(),
    }
}

/// Whether the constants are the same, with the forms of their numbers.
fn same_bits(left: &ScalarValue, right: &ScalarValue) -> bool {
    match (left, right) {
        (ScalarValue::Float64(Some(left)), ScalarValue::Float64(Some(right))) => {
            left.to_bits() == right.to_bits()
        }
        (ScalarValue::Float32(Some(left)), ScalarValue::Float32(Some(right))) => {
            left.to_bits() == right.to_bits()
        }
        (left, right) => left == right,
    }
}
