//! Functions of which DataFusion cannot say whether they keep the order of their argument, because the argument may be outside
//! their domain, or its bounds are unknown: `sqrt` and `ln` of a column, `exp(abs(x))`. It then forgets that rows are sorted by
//! an expression with such a function, and fails to plan `ORDER BY` of it in a window. Here they keep no order.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

/// Functions of one number whose order or bounds DataFusion derives from those of the argument.
const DERIVED: [&str; 24] = [
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "degrees",
    "exp", "floor", "ln", "log", "log10", "log2", "radians", "sin", "sinh", "sqrt", "tan", "tanh",
    "cot",
];

/// Returns the function, whose order and bounds are unknown where they cannot be derived.
pub(in crate::engine::functions) fn with_derived_order(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match DERIVED.contains(&function.name()) {
        true => Arc::new(DerivedOrder(function).into()),
        false => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DerivedOrder(Arc<ScalarUDF>);

impl ScalarUDFImpl for DerivedOrder {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.0.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.0.return_type(kinds)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.0.inner().invoke_with_args(call)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.0.inner().simplify(args, context)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        let bounds = self.0.evaluate_bounds(inputs);
        // As for functions that do not derive them.
        bounds.or_else(|_| Interval::make_unbounded(&DataType::Null))
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let order = self.0.output_ordering(inputs);
        Ok(order.unwrap_or(SortProperties::Unordered))
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(kinds)
    }

    fn is_strict(&self) -> bool {
        self.0.inner().is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}
