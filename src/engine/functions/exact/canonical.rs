//! One form for values that are equal in SQL but have several: the two zeros and the NaNs of floating-point numbers, and
//! intervals of the same length. Arrow compares their bits where it sorts, groups, joins and searches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, GenericListArray,
    IntervalMonthDayNanoArray, OffsetSizeTrait, StructArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{Result, ScalarValue};

/// A month counts as 30 days where intervals are compared.
const DAYS_PER_MONTH: i64 = 30;
const NANOS_PER_DAY: i128 = 86_400_000_000_000;

type HalfFloat = <Float16Type as ArrowPrimitiveType>::Native;

/// Whether equal values of the type may have several forms.
pub(super) fn has_several_forms(kind: &DataType) -> bool {
    match kind {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Interval(IntervalUnit::MonthDayNano) => true,
        other => is_nested_with_forms(other),
    }
}

/// Whether the type is a list or a row that contains values with several forms.
pub(super) fn is_nested_with_forms(kind: &DataType) -> bool {
    match kind {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_several_forms(field.data_type())
        }
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| has_several_forms(field.data_type())),
        _ => false,
    }
}

/// Whether Arrow does not group equal values of the type. It groups the two zeros, and NaN has one form already.
pub(super) fn is_grouped_by_form(kind: &DataType) -> bool {
    matches!(kind, DataType::Interval(IntervalUnit::MonthDayNano)) || is_nested_with_forms(kind)
}

/// Returns the constant with NaN in its one form.
pub(super) fn canonical_value(value: &ScalarValue) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&with_canonical_nan(&value.to_array()?)?, 0)
}

/// The numbers that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forms {
    /// NaN and both zeros.
    All,
    Nan,
}

/// Returns the values in one form.
pub(super) fn canonical(values: &ArrayRef) -> Result<ArrayRef> {
    converted(values, Forms::All)
}

/// Returns the values with the positive NaN instead of others. Zeros and intervals keep their forms.
pub(super) fn with_canonical_nan(values: &ArrayRef) -> Result<ArrayRef> {
    converted(values, Forms::Nan)
}

fn converted(values: &ArrayRef, forms: Forms) -> Result<ArrayRef> {
    // The sum of the negative zero and zero is zero. That of the negative zero and itself is itself.
    let zero = match forms {
        Forms::All => 0.0,
        Forms::Nan => -0.0,
    };
    Ok(match values.data_type() {
        DataType::Float64 => {
            let numbers = values.as_primitive::<Float64Type>();
            let one_form = |value: f64| {
                if value.is_nan() {
                    f64::NAN
                } else {
                    value + zero
                }
            };
            Arc::new(numbers.unary::<_, Float64Type>(one_form)) as ArrayRef
        }
        DataType::Float32 => {
            let numbers = values.as_primitive::<Float32Type>();
            let one_form = |value: f32| match value.is_nan() {
                true => f32::NAN,
                false => value + zero as f32,
            };
            let numbers: Float32Array = numbers.unary(one_form);
            Arc::new(numbers)
        }
        DataType::Float16 => {
            let numbers = values.as_primitive::<Float16Type>();
            let numbers: Float16Array = numbers.unary(|value| match value.is_nan() {
                true => HalfFloat::NAN,
                false => value + HalfFloat::from_f64(zero),
            });
            Arc::new(numbers)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) if forms == Forms::All => {
            let intervals = values.as_primitive::<IntervalMonthDayNanoType>();
            let intervals: IntervalMonthDayNanoArray = intervals.unary(canonical_interval);
            Arc::new(intervals)
        }
        DataType::List(field) => list(values.as_list::<i32>(), field, forms)?,
        DataType::LargeList(field) => list(values.as_list::<i64>(), field, forms)?,
        DataType::FixedSizeList(field, size) => {
            let lists = values.as_fixed_size_list();
            let elements = converted(lists.values(), forms)?;
            let nulls = lists.nulls().cloned();
            Arc::new(FixedSizeListArray::try_new(
                Arc::clone(field),
                *size,
                elements,
                nulls,
            )?)
        }
        DataType::Struct(fields) => {
            let rows = values.as_struct();
            let columns = rows.columns().iter();
            let columns = columns.map(|column| converted(column, forms));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let nulls = rows.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                nulls,
                rows.len(),
            )?)
        }
        _ => Arc::clone(values),
    })
}

fn list<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
    field: &FieldRef,
    forms: Forms,
) -> Result<ArrayRef> {
    Ok(Arc::new(GenericListArray::try_new(
        Arc::clone(field),
        lists.offsets().clone(),
        converted(lists.values(), forms)?,
        lists.nulls().cloned(),
    )?))
}

/// Returns the interval of the same length with as many whole days as it has, and no months. Beyond the days that fit, it has
/// months. The order of these intervals is that of their lengths.
fn canonical_interval(interval: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let days = i64::from(interval.months) * DAYS_PER_MONTH + i64::from(interval.days);
    let length = i128::from(days) * NANOS_PER_DAY + i128::from(interval.nanoseconds);
    // Both fit: the length is less than 2^32 months.
    let days = i64::try_from(length / NANOS_PER_DAY).unwrap_or_default();
    let rest = i64::try_from(length % NANOS_PER_DAY).unwrap_or_default();
    match i32::try_from(days) {
        Ok(days) => IntervalMonthDayNano::new(0, days, rest),
        Err(_) => {
            let months = i32::try_from(days / DAYS_PER_MONTH).unwrap_or(interval.months);
            let days = i32::try_from(days % DAYS_PER_MONTH).unwrap_or_default();
            IntervalMonthDayNano::new(months, days, rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    fn length(interval: IntervalMonthDayNano) -> i128 {
        let days = i128::from(interval.months) * 30 + i128::from(interval.days);
        days * NANOS_PER_DAY + i128::from(interval.nanoseconds)
    }

    #[test]
    fn canonical_interval_keeps_length_and_order() {
        let edges = [0, 1, -1, 29, 30, -30, 31, i32::MAX, i32::MIN];
        let nanos = [0, 1, -1, i64::MAX, i64::MIN, 86_400_000_000_000];
        let mut intervals = Vec::new();
        for months in edges {
            for days in edges {
                for nanos in nanos {
                    intervals.push(IntervalMonthDayNano::new(months, days, nanos));
                }
            }
        }
        // Beyond the largest number of months, no interval of that length has one form only.
        intervals.retain(|interval| length(*interval) / NANOS_PER_DAY / 30 <= i128::from(i32::MAX));
        intervals.retain(|interval| length(*interval) / NANOS_PER_DAY / 30 >= i128::from(i32::MIN));
        intervals.sort_by_key(|interval| length(*interval));
        for pair in intervals.windows(2) {
            let [left, right] = [pair[0], pair[1]].map(canonical_interval);
            assert_eq!(length(left), length(pair[0]));
            let order = length(pair[0]).cmp(&length(pair[1]));
            assert_eq!(left.cmp(&right), order, "{pair:?}");
        }
    }

    #[test]
    fn nested_numbers_get_one_form() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, -f64::NAN, 1.5]));
        let lists = GenericListArray::<i32>::new(
            Arc::new(arrow::datatypes::Field::new_list_field(
                DataType::Float64,
                true,
            )),
            arrow::buffer::OffsetBuffer::from_lengths([1, 2]),
            numbers,
            None,
        );
        let bits = |values: &ArrayRef| -> Vec<u64> {
            let values = values.as_list::<i32>().values();
            let values = values.as_primitive::<Float64Type>().values();
            values.iter().map(|value| value.to_bits()).collect()
        };
        let lists: ArrayRef = Arc::new(lists);
        let nan = f64::NAN.to_bits();
        let all = canonical(&lists).expect("converts");
        assert_eq!(bits(&all), [0, nan, 1.5_f64.to_bits()]);
        let only_nan = with_canonical_nan(&lists).expect("converts");
        let negative_zero = (-0.0_f64).to_bits();
        assert_eq!(bits(&only_nan), [negative_zero, nan, 1.5_f64.to_bits()]);
    }
}
