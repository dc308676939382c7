//! A function with limits: the size of the result and the run time of a call are estimated before the call is made.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::ExprProperties;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use super::allow_list::{Bounds, Output, Work};
use super::costs::{Costs, memory_of};
use super::planning::check_constant;
use super::types::{check_named_type, check_type};
use crate::clock::Stopwatch;
use crate::engine::limits::cancellation::check_interruption;

/// The maximum size of the result of one call for one batch of rows, in bytes.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;
/// The maximum number of steps of a call for one row: about a second, during which it cannot be cancelled.
const MAX_ROW_STEPS: u64 = 1 << 30;
/// The maximum number of steps of a search for a pattern in one row. Steps are counted for the worst pattern and text;
/// most searches take a tenth of that.
const MAX_SEARCH_STEPS: u64 = 1 << 32;
/// The number of steps up to which a batch is computed in one call, about a tenth of a second. Beyond it, the batch is
/// divided into slices of rows.
const SLICE_STEPS: u64 = 1 << 27;
/// After a slice that took less time, the next one is larger: most texts are far from the worst case.
const SHORT_SLICE: Duration = Duration::from_millis(10);
/// After a slice that took more time, the next one is smaller.
const LONG_SLICE: Duration = Duration::from_millis(100);

/// A function with limits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BoundedFunction {
    inner: Arc<ScalarUDF>,
    bounds: Bounds,
}

impl BoundedFunction {
    pub fn new(inner: Arc<ScalarUDF>, bounds: Bounds) -> Self {
        Self { inner, bounds }
    }

    fn invoke_checked(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check_interruption()?;
        let is_one = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let is_constant = call.args.iter().all(is_one);
        let rows = if is_constant { 1 } else { call.number_rows };
        if self.bounds.is_proportional() && !is_constant {
            let costs = Costs::upper_bound(self.bounds, &call.args, rows);
            let is_short = costs.total_work(1) <= SLICE_STEPS;
            if is_short && costs.total_output(1) <= MAX_OUTPUT_BYTES {
                return self.inner.invoke_with_args(call);
            }
        }
        let costs = Costs::from_arguments(self.bounds, &call.args)?;
        self.check_costs(&costs, rows)?;
        if is_constant {
            check_constant(&costs, &call.args)?;
        }
        let is_small =
            costs.total_work(rows) <= SLICE_STEPS && costs.total_output(rows) <= MAX_OUTPUT_BYTES;
        match is_small || rows == 1 {
            true => self.inner.invoke_with_args(call),
            false => self.invoke_in_slices(&call, &costs, rows),
        }
    }

    /// Refuses a call whose result would be too large or that would take too long.
    fn check_costs(&self, costs: &Costs, rows: usize) -> Result<()> {
        // The result is usually smaller than this bound, so the sum over all rows is checked while it is computed.
        let output = match self.bounds.output {
            Output::Linear | Output::Replaced | Output::RegexReplaced => {
                costs.output_bytes.iter().copied().max().unwrap_or(0)
            }
            _ => costs.total_output(rows),
        };
        if output > MAX_OUTPUT_BYTES {
            return Err(self.output_too_large(output));
        }
        let steps = costs.work_steps.iter().copied().max().unwrap_or(0);
        let max_steps = match self.bounds.work {
            Work::Search | Work::RepeatedSearch | Work::LikeSearch => MAX_SEARCH_STEPS,
            _ => MAX_ROW_STEPS,
        };
        if steps > max_steps {
            return Err(self.execution_error(format_args!(
                "would exceed {max_steps} steps on one value; shorten the text, the list or the pattern"
            )));
        }
        Ok(())
    }

    fn output_too_large(&self, bytes: u64) -> DataFusionError {
        let mebibytes = bytes.div_ceil(1 << 20);
        self.execution_error(format_args!(
            "would produce {mebibytes} MiB from one batch of rows; the limit is {} MiB: ask for less",
            MAX_OUTPUT_BYTES >> 20
        ))
    }

    fn execution_error(&self, what: std::fmt::Arguments<'_>) -> DataFusionError {
        DataFusionError::Execution(format!("{} {what}", self.inner.name()))
    }

    /// Makes the call slice by slice, so that it can be cancelled in between.
    fn invoke_in_slices(
        &self,
        call: &ScalarFunctionArgs,
        costs: &Costs,
        rows: usize,
    ) -> Result<ColumnarValue> {
        let (mut parts, mut bytes): (Vec<ArrayRef>, _) = (Vec::new(), 0);
        let (mut from, mut steps) = (0, SLICE_STEPS);
        while from < rows {
            check_interruption()?;
            let slice = from..slice_end(costs, from, rows, steps);
            let since = Stopwatch::start();
            let part = self.inner.invoke_with_args(slice_call(call, &slice))?;
            let part = part.into_array(slice.len())?;
            match since.elapsed() {
                short if short < SHORT_SLICE => steps = steps.saturating_mul(8),
                long if long > LONG_SLICE => steps = (steps / 2).max(1),
                _ => {}
            }
            bytes += memory_of(&part);
            if self.bounds.output != Output::Fixed && bytes > MAX_OUTPUT_BYTES {
                return Err(self.output_too_large(bytes));
            }
            parts.push(part);
            from = slice.end;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

/// Returns the end of the slice that begins at `from`. It has at least one row; more rows must neither take more than
/// `steps` nor exceed the maximum size of a result.
fn slice_end(costs: &Costs, from: usize, rows: usize, steps: u64) -> usize {
    let cost_of_row = |costs: &[u64], row: usize| {
        let cost = if costs.len() == 1 {
            costs.first()
        } else {
            costs.get(row)
        };
        cost.copied().unwrap_or(0)
    };
    let (mut work, mut output) = (0_u64, 0_u64);
    let mut end = from;
    while end < rows {
        work = work.saturating_add(cost_of_row(&costs.work_steps, end));
        output = output.saturating_add(cost_of_row(&costs.output_bytes, end));
        if end > from && (work > steps || output > MAX_OUTPUT_BYTES) {
            break;
        }
        end += 1;
    }
    end
}

/// Returns the call restricted to these rows.
fn slice_call(call: &ScalarFunctionArgs, rows: &Range<usize>) -> ScalarFunctionArgs {
    let args = call.args.iter().map(|value| match value {
        ColumnarValue::Array(values) => ColumnarValue::Array(values.slice(rows.start, rows.len())),
        constant => constant.clone(),
    });
    ScalarFunctionArgs {
        args: args.collect(),
        arg_fields: call.arg_fields.clone(),
        number_rows: rows.len(),
        return_field: Arc::clone(&call.return_field),
        config_options: Arc::clone(&call.config_options),
    }
}

impl ScalarUDFImpl for BoundedFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.return_type(kinds)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_named_type(self.name(), args.scalar_arguments)?;
        let field = self.inner.return_field_from_args(args)?;
        check_type(field.data_type())?;
        Ok(field)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(Self::new(Arc::new(inner), self.bounds).into())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.invoke_checked(call)
    }

    /// Simplifies the call, unless the simplified expression could exceed the limits.
    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match self.bounds.is_kept_by_simplification() {
            true => self.inner.inner().simplify(args, context),
            false => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(kinds)
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
