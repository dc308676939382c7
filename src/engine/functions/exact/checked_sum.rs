//! Sums of integers, decimals and durations that fail when they exceed the type of the result. DataFusion's wrap
//! (apache/datafusion#3520, #17539).
//!
//! Partial sums have 128 bits, so that a sum fails only if the sum of all its rows is out of range.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Decimal128Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::columns::for_each_integer;

/// The type of partial sums.
const STATE: DataType = DataType::Decimal128(38, 0);

/// Whether the sums of this type are checked.
pub(super) fn is_checked(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..) | DataType::Duration(_)
    )
}

/// Returns the field of the partial sum.
pub(super) fn state_field(name: &str) -> FieldRef {
    Arc::new(Field::new(format!("{name}[sum]"), STATE, true))
}

fn out_of_range(kind: &DataType) -> DataFusionError {
    let (range, remedy) = match kind {
        DataType::Int64 => ("bigint", "sum(CAST(… AS DECIMAL(38, 0)))"),
        DataType::UInt64 => ("unsigned bigint", "sum(CAST(… AS DECIMAL(38, 0)))"),
        DataType::Duration(_) => ("an interval", "sum(extract(epoch FROM …))"),
        _ => ("a decimal with 38 digits", "sum(CAST(… AS DOUBLE))"),
    };
    DataFusionError::Execution(format!(
        "the sum is out of the range of {range}; use {remedy}"
    ))
}

fn add(sum: i128, value: i128, kind: &DataType) -> Result<i128> {
    sum.checked_add(value).ok_or_else(|| out_of_range(kind))
}

/// Returns the sums in the type of the result.
fn results(sums: Vec<Option<i128>>, kind: &DataType) -> Result<ArrayRef> {
    fn narrowed<T: TryFrom<i128>>(
        sums: Vec<Option<i128>>,
        kind: &DataType,
    ) -> Result<Vec<Option<T>>> {
        let sums = sums.into_iter().map(|sum| match sum.map(T::try_from) {
            None => Ok(None),
            Some(Ok(sum)) => Ok(Some(sum)),
            Some(Err(_)) => Err(out_of_range(kind)),
        });
        sums.collect()
    }
    Ok(match kind {
        DataType::UInt64 => Arc::new(UInt64Array::from(narrowed::<u64>(sums, kind)?)),
        DataType::Decimal128(precision, scale) => {
            let sums = Decimal128Array::from(sums).with_precision_and_scale(*precision, *scale)?;
            if sums.validate_decimal_precision(*precision).is_err() {
                return Err(out_of_range(kind));
            }
            Arc::new(sums)
        }
        kind => cast(&Int64Array::from(narrowed::<i64>(sums, kind)?), kind)?,
    })
}

fn states(sums: Vec<Option<i128>>) -> Result<ArrayRef> {
    let sums = Decimal128Array::from(sums).with_data_type(STATE);
    Ok(Arc::new(sums))
}

/// The sum of one group, or of a window.
#[derive(Debug)]
pub(super) struct CheckedSum {
    kind: DataType,
    sum: i128,
    rows: u64,
}

impl CheckedSum {
    /// Returns an empty sum whose result has the type `kind`.
    pub fn new(kind: DataType) -> Self {
        Self {
            kind,
            sum: 0,
            rows: 0,
        }
    }

    fn sum(&self) -> Option<i128> {
        (self.rows > 0).then_some(self.sum)
    }

    fn add_all(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, ..] = values else {
            return internal_err!("a sum takes one argument");
        };
        for_each_integer(values, |_, value| {
            self.sum = add(self.sum, value, &self.kind)?;
            self.rows += 1;
            Ok(())
        })
    }
}

impl Accumulator for CheckedSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add_all(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&results(vec![self.sum()], &self.kind)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(
            &states(vec![self.sum()])?,
            0,
        )?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add_all(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, ..] = values else {
            return internal_err!("a sum takes one argument");
        };
        for_each_integer(values, |_, value| {
            let sum = self.sum.checked_sub(value);
            self.sum = sum.ok_or_else(|| out_of_range(&self.kind))?;
            self.rows = self.rows.saturating_sub(1);
            Ok(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

/// The sums of many groups.
#[derive(Debug)]
pub(super) struct CheckedSums {
    kind: DataType,
    /// The sum of each group.
    sums: Vec<i128>,
    /// Whether a group has a value.
    has_values: Vec<bool>,
}

impl CheckedSums {
    /// Returns sums without groups, whose results have the type `kind`.
    pub fn new(kind: DataType) -> Self {
        Self {
            kind,
            sums: Vec::new(),
            has_values: Vec::new(),
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Option<i128>> {
        let sums = emit_to.take_needed(&mut self.sums).into_iter();
        let has_values = emit_to.take_needed(&mut self.has_values).into_iter();
        sums.zip(has_values)
            .map(|(sum, has_value)| has_value.then_some(sum))
            .collect()
    }

    fn add_all(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        let [values, ..] = values else {
            return internal_err!("a sum takes one argument");
        };
        self.sums.resize(group_count, 0);
        self.has_values.resize(group_count, false);
        for_each_integer(values, |row, value| {
            if filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                return Ok(());
            }
            let group = groups.get(row).copied().unwrap_or_default();
            if let (Some(sum), Some(has_value)) =
                (self.sums.get_mut(group), self.has_values.get_mut(group))
            {
                *sum = add(*sum, value, &self.kind)?;
                *has_value = true;
            }
            Ok(())
        })
    }
}

impl GroupsAccumulator for CheckedSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.add_all(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        results(self.take(emit_to), &self.kind)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![states(self.take(emit_to))?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.add_all(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let [values, ..] = values else {
            return internal_err!("a sum takes one argument");
        };
        let mut rows = vec![None; values.len()];
        for_each_integer(values, |row, value| {
            let is_left_out =
                opt_filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row));
            if let (false, Some(sum)) = (is_left_out, rows.get_mut(row)) {
                *sum = Some(value);
            }
            Ok(())
        })?;
        Ok(vec![states(rows)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.has_values.capacity()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Decimal128Type;

    use super::*;

    #[test]
    fn partial_sums_may_exceed_the_range_of_the_result() {
        let mut sum = CheckedSum::new(DataType::Int64);
        let large: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX]));
        sum.update_batch(&[Arc::clone(&large)]).unwrap();
        assert!(sum.evaluate().unwrap_err().to_string().contains("bigint"));
        let states: Vec<_> = sum
            .state()
            .unwrap()
            .iter()
            .map(|state| state.to_array().unwrap())
            .collect();
        let mut rest = CheckedSum::new(DataType::Int64);
        rest.update_batch(&[Arc::new(Int64Array::from(vec![-i64::MAX, 5]))])
            .unwrap();
        rest.merge_batch(&states).unwrap();
        let total = rest.evaluate();
        assert!(total.is_err());
        rest.retract_batch(&[Arc::new(Int64Array::from(vec![5 + 1]))])
            .unwrap();
        assert_eq!(
            rest.evaluate().unwrap(),
            ScalarValue::Int64(Some(i64::MAX - 1))
        );
        assert_eq!(
            states[0].as_primitive::<Decimal128Type>().value(0),
            2 * i128::from(i64::MAX)
        );
    }
}
