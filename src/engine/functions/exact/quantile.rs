//! `median` and `percentile_cont` of doubles, with the exact weight of the two nearest values. DataFusion cuts the weight to six
//! decimals (apache/datafusion#25266), and adds or subtracts the two values, which overflows (apache/datafusion#25267).

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::columns::doubles;

/// A quantile of the values of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantile {
    /// The fraction of the values below the result.
    pub fraction: f64,
    /// Whether the fraction counts from the greatest value.
    pub is_descending: bool,
    /// Whether equal values count once.
    pub is_distinct: bool,
    /// The type of the result: a double or a float.
    pub kind: DataType,
}

/// Returns the field of the values of a group.
pub(super) fn state_field(name: &str) -> FieldRef {
    Arc::new(Field::new(
        format!("{name}[values]"),
        DataType::List(list_item()),
        true,
    ))
}

fn list_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

impl Quantile {
    /// Returns the quantile of the values, whose order it changes; `None` if there are none.
    fn of_values(&self, values: &mut Vec<f64>) -> Option<f64> {
        if self.is_distinct {
            values.sort_unstable_by(f64::total_cmp);
            values.dedup_by(|one, other| one == other || (one.is_nan() && other.is_nan()));
        }
        let last = values.len().checked_sub(1)?;
        let position = self.fraction * last as f64;
        // At most `last`, because the fraction is at most 1.
        let below = (position.floor() as usize).min(last);
        let weight = position - below as f64;
        let order = |one: &f64, other: &f64| match self.is_descending {
            true => other.total_cmp(one),
            false => one.total_cmp(other),
        };
        let (_, lower, greater) = values.select_nth_unstable_by(below, order);
        let lower = *lower;
        match greater
            .iter()
            .copied()
            .min_by(|one, other| order(one, other))
        {
            Some(upper) if weight > 0.0 => Some(interpolate(lower, upper, weight)),
            _ => Some(lower),
        }
    }

    fn results(&self, values: Vec<Option<f64>>) -> Result<ArrayRef> {
        let values: ArrayRef = Arc::new(Float64Array::from(values));
        Ok(match &self.kind {
            DataType::Float64 => values,
            kind => cast(&values, kind)?,
        })
    }
}

/// Returns the value at `weight` of the way from one value to another.
fn interpolate(from: f64, to: f64, weight: f64) -> f64 {
    if from == to {
        return from;
    }
    let distance = to - from;
    match distance.is_finite() {
        true => from + distance * weight,
        false => from * (1.0 - weight) + to * weight,
    }
}

/// Returns lists with the values of each group.
fn lists(groups: Vec<Vec<f64>>) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
    let values: Vec<f64> = groups.into_iter().flatten().collect();
    let values = Arc::new(Float64Array::from(values));
    Ok(Arc::new(ListArray::try_new(
        list_item(),
        offsets,
        values,
        None,
    )?))
}

/// Calls `each` with the row and the values of each list.
fn for_each_list(states: &[ArrayRef], mut each: impl FnMut(usize, &Float64Array)) -> Result<()> {
    let Some(lists) = states
        .first()
        .and_then(|states| states.as_list_opt::<i32>())
    else {
        return internal_err!("the state of a quantile is a list");
    };
    for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
        each(row, lists.value(row).as_primitive::<Float64Type>());
    }
    Ok(())
}

/// The values of one group or of a window, the oldest first.
#[derive(Debug)]
pub(super) struct Values {
    quantile: Quantile,
    values: VecDeque<f64>,
}

impl Values {
    pub fn new(quantile: Quantile) -> Self {
        Self {
            quantile,
            values: VecDeque::new(),
        }
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else {
            return internal_err!("a quantile takes an argument");
        };
        self.values.extend(doubles(values)?.iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut values: Vec<f64> = self.values.iter().copied().collect();
        let result = self.quantile.of_values(&mut values);
        ScalarValue::try_from_array(&self.quantile.results(vec![result])?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.values.iter().copied().collect();
        Ok(vec![ScalarValue::try_from_array(&lists(vec![values])?, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for_each_list(states, |_, values| {
            self.values.extend(values.iter().flatten());
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else {
            return internal_err!("a quantile takes an argument");
        };
        let left = values.len() - values.null_count();
        self.values.drain(..left.min(self.values.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// The values of many groups.
#[derive(Debug)]
pub(super) struct GroupedValues {
    quantile: Quantile,
    groups: Vec<Vec<f64>>,
    /// The number of values in all groups.
    count: usize,
}

impl GroupedValues {
    pub fn new(quantile: Quantile) -> Self {
        Self {
            quantile,
            groups: Vec::new(),
            count: 0,
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Vec<f64>> {
        let groups = emit_to.take_needed(&mut self.groups);
        self.count -= groups.iter().map(Vec::len).sum::<usize>();
        groups
    }
}

impl GroupsAccumulator for GroupedValues {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let Some(values) = values.first() else {
            return internal_err!("a quantile takes an argument");
        };
        self.groups.resize(total_num_groups, Vec::new());
        let values = doubles(values)?;
        for (row, (value, group)) in values.iter().zip(group_indices).enumerate() {
            if opt_filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            if let (Some(value), Some(group)) = (value, self.groups.get_mut(*group)) {
                group.push(value);
                self.count += 1;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.take(emit_to).into_iter();
        let results = groups.map(|mut values| self.quantile.of_values(&mut values));
        self.quantile.results(results.collect())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![lists(self.take(emit_to))?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize(total_num_groups, Vec::new());
        for_each_list(values, |row, values| {
            let group = group_indices.get(row).copied().unwrap_or_default();
            if let Some(group) = self.groups.get_mut(group) {
                group.extend(values.iter().flatten());
                self.count += values.len();
            }
        })
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let Some(values) = values.first() else {
            return internal_err!("a quantile takes an argument");
        };
        let is_left_out =
            |row| opt_filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row));
        let rows = doubles(values)?;
        let rows = rows.iter().enumerate().map(|(row, value)| {
            let value = value.filter(|_| !is_left_out(row));
            value.into_iter().collect::<Vec<f64>>()
        });
        Ok(vec![lists(rows.collect())?])
    }

    fn size(&self) -> usize {
        // A list has at most twice the capacity that it needs.
        self.groups.capacity() * size_of::<Vec<f64>>() + 2 * self.count * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(fraction: f64, is_descending: bool, values: &[f64]) -> f64 {
        let quantile = Quantile {
            fraction,
            is_descending,
            is_distinct: false,
            kind: DataType::Float64,
        };
        quantile.of_values(&mut values.to_vec()).unwrap()
    }

    #[test]
    fn weight_is_not_cut_and_extremes_do_not_overflow() {
        assert_eq!(quantile(2.5e-7, false, &[2.0, 0.0, 1.0]), 5e-7);
        assert_eq!(quantile(0.9, true, &[1.0, 2.0, 7.0]), 1.2);
        assert_eq!(quantile(0.5, false, &[f64::MAX, -f64::MAX]), 0.0);
        assert_eq!(quantile(0.5, false, &[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(quantile(1.0, false, &[3.0, f64::INFINITY]), f64::INFINITY);
        assert_eq!(quantile(0.0, false, &[3.0, f64::INFINITY]), 3.0);
    }
}
