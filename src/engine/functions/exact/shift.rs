//! `lead` and `lag`. With IGNORE NULLS, DataFusion's evaluation row by row loses values behind a gap of nulls, and a LIMIT is
//! pushed below `lead` and `lag` that look ahead (apache/datafusion#25471).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{
    Documentation, LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF,
    WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::engine::limits::cancellation;

/// Returns `lead` or `lag` with right results; other functions unchanged.
pub(super) fn exact_window(function: Arc<WindowUDF>) -> Arc<WindowUDF> {
    match function.name() {
        "lead" | "lag" => Arc::new(WindowUDF::new_from_impl(ExactShift(function))),
        _ => function,
    }
}

/// `lead` or `lag`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactShift(Arc<WindowUDF>);

impl ExactShift {
    fn inner(&self) -> &dyn WindowUDFImpl {
        self.0.inner().as_ref()
    }
}

impl WindowUDFImpl for ExactShift {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner().expressions(args)
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let ignores_nulls = args.ignore_nulls();
        let inner = self.inner().partition_evaluator(args)?;
        Ok(match ignores_nulls {
            true => Box::new(WholePartition(inner)),
            false => inner,
        })
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        self.inner().simplify()
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        self.inner().field(args)
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.inner().sort_options()
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(kinds)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.inner().reverse_expr() {
            ReversedUDWF::Reversed(other) => ReversedUDWF::Reversed(exact_window(other)),
            other => other,
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }

    /// The number of rows that a function which looks ahead needs is unknown: it may ignore nulls, which the arguments do not
    /// tell.
    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        let looks_back = self.name() == "lag"
            && args.get(1).is_none_or(|distance| {
                let constant = distance.downcast_ref::<Literal>().map(Literal::value);
                matches!(constant, Some(ScalarValue::Int64(Some(0..))))
            });
        match looks_back {
            true => self.inner().limit_effect(args),
            false => LimitEffect::Unknown,
        }
    }
}

/// An evaluator that gets whole partitions.
#[derive(Debug)]
struct WholePartition(Box<dyn PartitionEvaluator>);

impl PartitionEvaluator for WholePartition {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        cancellation::check()?;
        self.0.evaluate_all(values, rows)
    }
}
