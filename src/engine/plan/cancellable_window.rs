//! Window functions that check at each row whether the query was cancelled. The work for one row may grow with the size
//! of the frame, and an operator computes all rows of a partition in one call. Aggregates are in `cancellable_aggregate`.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator};
use datafusion::physical_expr::window::{
    StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr,
};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use crate::engine::limits::cancellation;

/// Returns the window operator with checks in its functions; `None` if the step is not a window operator.
pub(in crate::engine) fn cancellable_window(
    step: &Arc<dyn ExecutionPlan>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(window) = step.downcast_ref::<WindowAggExec>() {
        let input = Arc::clone(window.input());
        let functions = cancellable_functions(window.window_expr());
        let repartitions = !window.partition_keys().is_empty();
        let window = WindowAggExec::try_new(functions, input, repartitions)?;
        return Ok(Some(Arc::new(window)));
    }
    if let Some(window) = step.downcast_ref::<BoundedWindowAggExec>() {
        let input = Arc::clone(window.input());
        let functions = cancellable_functions(window.window_expr());
        let (mode, repartitions) = (
            window.input_order_mode.clone(),
            !window.partition_keys().is_empty(),
        );
        let window = BoundedWindowAggExec::try_new(functions, input, mode, repartitions)?;
        return Ok(Some(Arc::new(window)));
    }
    Ok(None)
}

fn cancellable_functions(functions: &[Arc<dyn WindowExpr>]) -> Vec<Arc<dyn WindowExpr>> {
    functions.iter().map(cancellable_function).collect()
}

fn cancellable_function(function: &Arc<dyn WindowExpr>) -> Arc<dyn WindowExpr> {
    let Some(standard) = function.as_any().downcast_ref::<StandardWindowExpr>() else {
        return Arc::clone(function);
    };
    let inner = Arc::clone(standard.get_standard_func_expr());
    Arc::new(StandardWindowExpr::new(
        Arc::new(CancellableFunction(inner)),
        function.partition_by(),
        function.order_by(),
        Arc::clone(function.get_window_frame()),
    ))
}

/// A window function such as `nth_value`, with checks.
#[derive(Debug)]
struct CancellableFunction(Arc<dyn StandardWindowFunctionExpr>);

impl StandardWindowFunctionExpr for CancellableFunction {
    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }

    fn field(&self) -> Result<FieldRef> {
        self.0.field()
    }

    fn expressions(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.0.expressions()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn evaluate_args(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.0.evaluate_args(batch)
    }

    fn create_evaluator(&self) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(CancellableEvaluator(self.0.create_evaluator()?)))
    }

    fn reverse_expr(&self) -> Option<Arc<dyn StandardWindowFunctionExpr>> {
        self.0.reverse_expr()
    }

    fn get_result_ordering(&self, schema: &SchemaRef) -> Option<PhysicalSortExpr> {
        self.0.get_result_ordering(schema)
    }

    fn limit_effect(&self) -> LimitEffect {
        self.0.limit_effect()
    }
}

#[derive(Debug)]
struct CancellableEvaluator(Box<dyn PartitionEvaluator>);

impl PartitionEvaluator for CancellableEvaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.0.memoize(state)
    }

    fn get_range(&self, row: usize, rows: usize) -> Result<Range<usize>> {
        self.0.get_range(row, rows)
    }

    fn is_causal(&self) -> bool {
        self.0.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        cancellation::check()?;
        self.0.evaluate_all(values, rows)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        cancellation::check()?;
        self.0.evaluate(values, range)
    }

    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        cancellation::check()?;
        self.0.evaluate_all_with_rank(rows, ranks)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.0.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.0.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.0.include_rank()
    }
}
