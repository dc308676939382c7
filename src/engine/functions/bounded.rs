//! A function within its limits: what a call would make and how long it would work is known before it is made.

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

use super::super::cancellation::check_interruption;
use super::costs::Costs;
use super::offered::{Bounds, Output, Work};
use super::planning::check_constant;
use super::types::{check_named_type, check_type};
use crate::clock::Stopwatch;

/// The maximum that one call makes of one batch of rows, in bytes.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;
/// The maximum number of steps that a call takes for one row: about a second, in which nothing can end it.
const MAX_ROW_STEPS: u64 = 1 << 30;
/// The same of a search for a pattern, whose steps are counted for the worst pattern and text. Most take a tenth of that.
const MAX_SEARCH_STEPS: u64 = 1 << 32;
/// Steps that a batch may take in one go, about a tenth of a second. What may take more is done in slices of rows.
const SLICE_STEPS: u64 = 1 << 27;
/// A slice that took less time is followed by a larger one, since most texts are far from the worst.
const SHORT_SLICE: Duration = Duration::from_millis(10);
/// A slice that took more is followed by a smaller one.
const LONG_SLICE: Duration = Duration::from_millis(100);

/// A function within its limits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BoundedFunction {
    inner: Arc<ScalarUDF>,
    bounds: Bounds,
}

impl BoundedFunction {
    pub fn new(inner: Arc<ScalarUDF>, bounds: Bounds) -> Self {
        Self { inner, bounds }
    }

    fn checked(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check_interruption()?;
        let is_one = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let is_constant = call.args.iter().all(is_one);
        let rows = if is_constant { 1 } else { call.number_rows };
        if self.bounds.are_in_proportion() && !is_constant {
            let costs = Costs::at_most(self.bounds, &call.args, rows);
            let is_short = costs.total_work(1) <= SLICE_STEPS;
            if is_short && costs.total_output(1) <= MAX_OUTPUT_BYTES {
                return self.inner.invoke_with_args(call);
            }
        }
        let costs = Costs::of(self.bounds, &call.args)?;
        self.check(&costs, rows)?;
        if is_constant {
            check_constant(&costs, &call.args)?;
        }
        let is_small =
            costs.total_work(rows) <= SLICE_STEPS && costs.total_output(rows) <= MAX_OUTPUT_BYTES;
        match is_small || rows == 1 {
            true => self.inner.invoke_with_args(call),
            false => self.in_slices(&call, &costs, rows),
        }
    }

    /// Refuses a call that would make too much or work for too long.
    fn check(&self, costs: &Costs, rows: usize) -> Result<()> {
        // What is made is less than the bound, mostly. It is added up as it is made.
        let output = match self.bounds.output {
            Output::Linear | Output::Replaced | Output::RegexReplaced => {
                costs.output.iter().copied().max().unwrap_or(0)
            }
            _ => costs.total_output(rows),
        };
        if output > MAX_OUTPUT_BYTES {
            return Err(self.too_much(output));
        }
        let steps = costs.work.iter().copied().max().unwrap_or(0);
        let max_steps = match self.bounds.work {
            Work::Search | Work::RepeatedSearch | Work::LikeSearch => MAX_SEARCH_STEPS,
            _ => MAX_ROW_STEPS,
        };
        if steps > max_steps {
            return Err(self.refused(format_args!(
                "would exceed {max_steps} steps on one value; shorten the text, the list or the pattern"
            )));
        }
        Ok(())
    }

    fn too_much(&self, bytes: u64) -> DataFusionError {
        let mebibytes = bytes.div_ceil(1 << 20);
        self.refused(format_args!(
            "would produce {mebibytes} MiB from one batch of rows; the limit is {} MiB: ask for less",
            MAX_OUTPUT_BYTES >> 20
        ))
    }

    fn refused(&self, what: std::fmt::Arguments<'_>) -> DataFusionError {
        DataFusionError::Execution(format!("{} {what}", self.inner.name()))
    }

    /// Makes the call for some rows after the other, so that it can be ended in between.
    fn in_slices(
        &self,
        call: &ScalarFunctionArgs,
        costs: &Costs,
        rows: usize,
    ) -> Result<ColumnarValue> {
        let (mut parts, mut bytes): (Vec<ArrayRef>, _) = (Vec::new(), 0);
        let (mut from, mut steps) = (0, SLICE_STEPS);
        while from < rows {
            check_interruption()?;
            let slice = from..end_of_slice(costs, from, rows, steps);
            let since = Stopwatch::start();
            let part = self.inner.invoke_with_args(sliced(call, &slice))?;
            let part = part.into_array(slice.len())?;
            match since.elapsed() {
                short if short < SHORT_SLICE => steps = steps.saturating_mul(8),
                long if long > LONG_SLICE => steps = (steps / 2).max(1),
                _ => {}
            }
            bytes += part.get_array_memory_size() as u64;
            if self.bounds.output != Output::Fixed && bytes > MAX_OUTPUT_BYTES {
                return Err(self.too_much(bytes));
            }
            parts.push(part);
            from = slice.end;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

/// The end of the slice that begins at `from`: it has one row at least, and no more rows than take `steps` and make what
/// one call may make.
fn end_of_slice(costs: &Costs, from: usize, rows: usize, steps: u64) -> usize {
    let of = |costs: &[u64], row: usize| {
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
        work = work.saturating_add(of(&costs.work, end));
        output = output.saturating_add(of(&costs.output, end));
        if end > from && (work > steps || output > MAX_OUTPUT_BYTES) {
            break;
        }
        end += 1;
    }
    end
}

/// The call for these rows only.
fn sliced(call: &ScalarFunctionArgs, rows: &Range<usize>) -> ScalarFunctionArgs {
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
        self.checked(call)
    }

    /// What a call is turned into may not be within the limits.
    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match self.bounds.hold_when_simplified() {
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
