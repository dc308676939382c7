//! Aggregates in window functions that check at each row whether the query was cancelled; see `cancellable_window`.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, ReversedUDAF, SetMonotonicity,
    Signature, WindowFunctionDefinition,
};

use crate::engine::limits::cancellation;

/// Returns the optimised plan with cancellation checks in the aggregates of its window functions.
pub(in crate::engine) fn with_cancellable_aggregates(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let checked = plan.clone().transform_up_with_subqueries(|step| {
        if !matches!(step, LogicalPlan::Window(_)) {
            return Ok(Transformed::no(step));
        }
        step.map_expressions(|expression| {
            expression.transform_up(|part| {
                let Expr::WindowFunction(mut function) = part else {
                    return Ok(Transformed::no(part));
                };
                let WindowFunctionDefinition::AggregateUDF(aggregate) = &function.fun else {
                    return Ok(Transformed::no(Expr::WindowFunction(function)));
                };
                let checked = cancellable_aggregate(Arc::clone(aggregate));
                function.fun = WindowFunctionDefinition::AggregateUDF(checked);
                Ok(Transformed::yes(Expr::WindowFunction(function)))
            })
        })
    });
    checked.data()
}

fn cancellable_aggregate(aggregate: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(CancellableAggregate(aggregate)))
}

/// An aggregate whose accumulators check for cancellation.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CancellableAggregate(Arc<AggregateUDF>);

impl CancellableAggregate {
    fn inner(&self) -> &dyn AggregateUDFImpl {
        self.0.inner().as_ref()
    }
}

impl AggregateUDFImpl for CancellableAggregate {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner().window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner().window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner().return_type(kinds)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner().return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner().is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let inner = self.inner().accumulator(args)?;
        Ok(Box::new(CancellableAccumulator(inner)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let inner = self.inner().create_sliding_accumulator(args)?;
        Ok(Box::new(CancellableAccumulator(inner)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner().state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner().reverse_expr() {
            ReversedUDAF::Reversed(other) => ReversedUDAF::Reversed(cancellable_aggregate(other)),
            other => other,
        }
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(kinds)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        self.inner().default_value(kind)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner().supports_within_group_clause()
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(kind)
    }
}

#[derive(Debug)]
struct CancellableAccumulator(Box<dyn Accumulator>);

impl Accumulator for CancellableAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        cancellation::check()?;
        self.0.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        cancellation::check()?;
        self.0.evaluate()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        cancellation::check()?;
        self.0.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}
