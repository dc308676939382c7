//! Accumulators whose results have NaN in its one form: the sum of both infinities is the processor's NaN, which is negative.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::canonical::{canonical_value, with_canonical_nan};

/// Returns the accumulator with NaN in one form, if it computes floating-point numbers.
pub(super) fn with_one_nan(inner: Box<dyn Accumulator>, result: &DataType) -> Box<dyn Accumulator> {
    match result.is_floating() {
        true => Box::new(OneNan(inner)),
        false => inner,
    }
}

/// Returns the accumulator of many groups with NaN in one form, if it computes floating-point numbers.
pub(super) fn groups_with_one_nan(
    inner: Box<dyn GroupsAccumulator>,
    result: &DataType,
) -> Box<dyn GroupsAccumulator> {
    match result.is_floating() {
        true => Box::new(OneNanGroups(inner)),
        false => inner,
    }
}

#[derive(Debug)]
struct OneNan(Box<dyn Accumulator>);

impl Accumulator for OneNan {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        canonical_value(&self.0.evaluate()?)
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
        self.0.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}

struct OneNanGroups(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for OneNanGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.0
            .update_batch(values, group_indices, filter, total_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        with_canonical_nan(&self.0.evaluate(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.0.merge_batch(states, group_indices, total_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
