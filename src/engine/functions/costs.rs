//! Estimates the size of the result and the run time of a call from its arguments, before the call is made.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::allow_list::{Bounds, Output, Work};
use super::pattern::{self, MAX_PATTERN_BYTES};

/// The number of steps for each byte that is copied or scanned.
const STEPS_PER_BYTE: u64 = 2;
/// The number of steps for each byte of values that are hashed, compared or copied one by one: about 250 for a value of
/// eight bytes.
const STEPS_PER_VALUE_BYTE: u64 = 32;
/// The minimum size of a value in a list, in bytes.
const MIN_VALUE_BYTES: u64 = 8;
/// The maximum size of a character in bytes.
const MAX_CHARACTER_BYTES: u64 = 4;
/// The maximum size of a number or a time as text, in bytes.
const MAX_NUMBER_TEXT_BYTES: u64 = 64;
/// The approximate number of steps to compile a pattern.
const COMPILE_STEPS: u64 = 1 << 22;
/// The assumed number of states of a pattern that differs between rows: such patterns are not compiled for the
/// estimate.
const ASSUMED_STATES: u64 = 1 << 13;
/// The number of steps to compare one character of a LIKE pattern.
const LIKE_STEPS: u64 = 8;
/// The size from which on the result of a replacement is computed exactly, in bytes.
const MIN_EXACT_BYTES: u64 = 1 << 20;

/// The maximum size of the result in bytes and the maximum number of steps, for each row. A single value applies to all
/// rows.
pub(super) struct Costs {
    pub output_bytes: Vec<u64>,
    pub work_steps: Vec<u64>,
}

impl Costs {
    /// Returns an upper bound for all `rows` together, without reading any row. The result and the work must be
    /// proportional to the arguments.
    pub fn upper_bound(bounds: Bounds, arguments: &[ColumnarValue], rows: usize) -> Self {
        let sizes = arguments.iter().map(|value| match value {
            ColumnarValue::Scalar(value) => (value.size() as u64).saturating_mul(rows as u64),
            ColumnarValue::Array(values) => memory_of(values),
        });
        let bytes = sizes.fold(0, u64::saturating_add);
        Self {
            output_bytes: vec![bytes],
            work_steps: vec![bytes.saturating_mul(steps_per_byte(bounds.work))],
        }
    }

    /// Returns the costs of a call. Each argument has one value per row, or a single value for all rows.
    pub fn from_arguments(bounds: Bounds, arguments: &[ColumnarValue]) -> Result<Self> {
        let columns = arguments.iter().map(|value| match value {
            ColumnarValue::Array(values) => Ok(Arc::clone(values)),
            ColumnarValue::Scalar(value) => value.to_array(),
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        Ok(Self {
            output_bytes: estimate_output(bounds.output, &columns)?,
            work_steps: estimate_work(bounds, &columns)?,
        })
    }

    /// Returns the size of the result for all rows, in bytes.
    pub fn total_output(&self, rows: usize) -> u64 {
        total(&self.output_bytes, rows)
    }

    /// Returns the number of steps for all rows.
    pub fn total_work(&self, rows: usize) -> u64 {
        total(&self.work_steps, rows)
    }
}

/// Returns the sum of the costs over `rows` rows.
fn total(costs: &[u64], rows: usize) -> u64 {
    match costs {
        [one] => one.saturating_mul(rows as u64),
        costs => costs
            .iter()
            .fold(0, |sum: u64, cost| sum.saturating_add(*cost)),
    }
}

/// Returns the memory of the values in bytes. Of the buffers that views share with other arrays, only the texts that they show
/// count.
pub(super) fn memory_of(values: &dyn Array) -> u64 {
    let views = size_of::<u128>().saturating_mul(values.len());
    let bytes = match values.data_type() {
        DataType::Utf8View => values.as_string_view().total_buffer_bytes_used() + views,
        DataType::BinaryView => values.as_binary_view().total_buffer_bytes_used() + views,
        _ => values.get_array_memory_size(),
    };
    bytes as u64
}

/// Returns the number of steps for each byte of the arguments; 0 if their size does not determine the work.
fn steps_per_byte(work: Work) -> u64 {
    match work {
        Work::Linear => STEPS_PER_BYTE,
        Work::EachValue => STEPS_PER_VALUE_BYTE,
        _ => 0,
    }
}

/// Returns the size of all arguments for each row, in bytes.
fn total_sizes(columns: &[ArrayRef]) -> Vec<u64> {
    columns.iter().fold(vec![0], |sum, column| {
        combine_rows(&sum, &sizes(column), u64::saturating_add)
    })
}

/// Returns the size of each value in bytes: of a text, or of a list with its contents. Other values count with their
/// mean size.
fn sizes(column: &ArrayRef) -> Vec<u64> {
    let mean =
        |values: &dyn Array| MIN_VALUE_BYTES.max(memory_of(values) / values.len().max(1) as u64);
    match column.data_type() {
        DataType::List(_) | DataType::LargeList(_) => {
            let mut inner = Arc::clone(column);
            let mut ends: Vec<usize> = (0..=column.len()).collect();
            while let Some((values, within)) = inner_values(&inner, &ends) {
                (inner, ends) = (values, within);
            }
            let mean = mean(&inner);
            let counts = ends.iter().zip(ends.iter().skip(1));
            counts
                .map(|(from, to)| mean.saturating_mul(to.saturating_sub(*from) as u64))
                .collect()
        }
        kind if kind.is_string() || kind.is_binary() => lengths(column),
        _ => vec![mean(column)],
    }
}

/// Returns the values in lists, and the end of each row's values. `ends` are the ends of each row's lists. `None` if
/// the values are not lists.
fn inner_values(lists: &ArrayRef, ends: &[usize]) -> Option<(ArrayRef, Vec<usize>)> {
    fn map_ends<O: OffsetSizeTrait>(offsets: &[O], ends: &[usize]) -> Vec<usize> {
        let offset_at = |end: &usize| offsets.get(*end).map_or(0, |offset| offset.as_usize());
        ends.iter().map(offset_at).collect()
    }
    if let Some(lists) = lists.as_list_opt::<i32>() {
        return Some((
            Arc::clone(lists.values()),
            map_ends(lists.value_offsets(), ends),
        ));
    }
    let lists = lists.as_list_opt::<i64>()?;
    Some((
        Arc::clone(lists.values()),
        map_ends(lists.value_offsets(), ends),
    ))
}

fn estimate_output(output: Output, columns: &[ArrayRef]) -> Result<Vec<u64>> {
    Ok(match (output, columns) {
        (Output::Linear, columns) => total_sizes(columns),
        (Output::Concatenated, columns) => {
            let mut sum = vec![0];
            for column in columns {
                sum = combine_rows(&sum, &lengths(column), u64::saturating_add);
            }
            sum
        }
        (Output::Repeated, [text, count, ..]) => products(&lengths(text), &numbers(count)?),
        (Output::Padded, [_, count, ..]) => products(&[MAX_CHARACTER_BYTES], &numbers(count)?),
        (Output::SizedList, [list, count, rest @ ..]) => {
            let value = rest.first().unwrap_or(list);
            let width = memory_of(value) / value.len().max(1) as u64;
            let width = MIN_VALUE_BYTES.max(width);
            products(&[width], &numbers(count)?)
        }
        (Output::Range, ends) => products(&[MIN_VALUE_BYTES], &values_between(ends)?),
        (Output::Joined, [list, separators @ ..]) => joined_bytes(list, separators),
        (Output::Replaced, [text, from, to]) => replaced_bytes(text, from, to),
        (Output::RegexReplaced, [text, _, to, ..]) => {
            // The pattern can match at each character. The replacement may contain references to the matched text, each
            // at least two characters long.
            combine_rows(&lengths(text), &lengths(to), |text, to| {
                let places = text.saturating_add(1);
                places.saturating_mul(to.saturating_mul(2).saturating_add(1))
            })
        }
        _ => vec![0],
    })
}

fn estimate_work(bounds: Bounds, columns: &[ArrayRef]) -> Result<Vec<u64>> {
    let by_size =
        |columns: &[ArrayRef], work| products(&total_sizes(columns), &[steps_per_byte(work)]);
    Ok(match (bounds.work, columns) {
        (work, columns) if bounds.is_proportional() => by_size(columns, work),
        (Work::TextProduct, [one, other, ..]) => products(&lengths(one), &lengths(other)),
        (Work::ListProduct, [one, other, ..]) => combine_rows(
            &products(&lengths(one), &lengths(other)),
            &by_size(columns, Work::EachValue),
            u64::saturating_add,
        ),
        (Work::Search, [text, pattern, ..]) => search_steps(text, pattern, false),
        (Work::RepeatedSearch, [text, pattern, ..]) => search_steps(text, pattern, true),
        (Work::LikeSearch, [text, pattern, ..]) => {
            let (compile, steps) = match single_text(pattern) {
                Some(pattern) if is_simple_like(pattern) => return Ok(lengths(text)),
                Some(_) => (0, LIKE_STEPS),
                None => (COMPILE_STEPS, LIKE_STEPS),
            };
            combine_rows(&lengths(text), &lengths(pattern), |text, pattern| {
                let search = text.saturating_mul(pattern).saturating_mul(steps);
                search.saturating_add(
                    compile
                        + if pattern > MAX_PATTERN_BYTES {
                            u64::MAX / 2
                        } else {
                            0
                        },
                )
            })
        }
        _ => vec![0],
    })
}

/// Returns the number of steps of searches for patterns: one search per text, or one from each match on.
fn search_steps(text: &ArrayRef, pattern: &ArrayRef, is_repeated: bool) -> Vec<u64> {
    let search = |text: u64, states: u64| {
        let once = text.saturating_add(1).saturating_mul(states);
        match is_repeated {
            true => once.saturating_mul(text.max(1)),
            false => once,
        }
    };
    if let Some(pattern) = single_text(pattern) {
        if pattern.len() as u64 > MAX_PATTERN_BYTES {
            return vec![u64::MAX];
        }
        let states = pattern::states(pattern);
        return lengths(text)
            .into_iter()
            .map(|text| search(text, states))
            .collect();
    }
    combine_rows(&lengths(text), &lengths(pattern), |text, pattern| {
        if pattern > MAX_PATTERN_BYTES {
            return u64::MAX;
        }
        search(text, ASSUMED_STATES).saturating_add(COMPILE_STEPS)
    })
}

/// Whether a LIKE pattern is searched for without being compiled: it has `%` at its ends only.
fn is_simple_like(pattern: &str) -> bool {
    let inside = pattern.strip_prefix('%').unwrap_or(pattern);
    let inside = inside.strip_suffix('%').unwrap_or(inside);
    !inside.contains(['%', '_', '\\'])
}

/// Returns the text if all rows have the same one.
fn single_text(texts: &ArrayRef) -> Option<&str> {
    if texts.len() != 1 || texts.is_null(0) {
        return None;
    }
    text_at(texts, 0)
}

fn text_at(texts: &ArrayRef, row: usize) -> Option<&str> {
    match texts.data_type() {
        DataType::Utf8 => Some(texts.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(texts.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(texts.as_string_view().value(row)),
        _ => None,
    }
}

/// Returns the size of texts after replacing `from` by `to`, in bytes.
fn replaced_bytes(text: &ArrayRef, from: &ArrayRef, to: &ArrayRef) -> Vec<u64> {
    let (texts, froms, tos) = (lengths(text), lengths(from), lengths(to));
    let rows = 0..texts.len().max(froms.len()).max(tos.len());
    let bytes = rows.map(|row| {
        let (length, from_length, to_length) = (
            value_in_row(&texts, row),
            value_in_row(&froms, row),
            value_in_row(&tos, row),
        );
        let places = length.checked_div(from_length).unwrap_or(length + 1);
        let bound = length.saturating_add(places.saturating_mul(to_length));
        if bound < MIN_EXACT_BYTES {
            return bound;
        }
        let value = |values: &ArrayRef| {
            let row = if values.len() == 1 { 0 } else { row };
            text_at(values, row).map(str::to_owned)
        };
        match (value(text), value(from)) {
            (Some(text), Some(from)) => {
                let places = text.matches(from.as_str()).count() as u64;
                length.saturating_add(places.saturating_mul(to_length))
            }
            _ => bound,
        }
    });
    bytes.collect()
}

/// Returns the size of the joined texts of each list's values, in bytes.
fn joined_bytes(list: &ArrayRef, separators: &[ArrayRef]) -> Vec<u64> {
    let values = list.to_data();
    // The values of nested lists are all joined.
    let (mut leaves, mut inner) = (values.clone(), values.child_data().first().cloned());
    let list_count = inner.as_ref().map_or(0, |values| values.len()).max(1) as u64;
    while let Some(values) = inner {
        inner = values.child_data().first().cloned();
        leaves = values;
    }
    let leaf_count = leaves.len() as u64;
    let text_bytes = leaves.buffers().iter().map(|buffer| buffer.len() as u64);
    let text_bytes: u64 = text_bytes.sum();
    let mut widths = vec![
        (text_bytes / list_count)
            .saturating_add(MAX_NUMBER_TEXT_BYTES.saturating_mul(leaf_count.div_ceil(list_count))),
    ];
    let each = leaf_count.div_ceil(list_count);
    for separator in separators {
        let separators = products(&[each], &lengths(separator));
        widths = combine_rows(&widths, &separators, u64::saturating_add);
    }
    products(&lengths(list), &widths)
}

/// Returns the value of a row; a single value applies to all rows.
fn value_in_row<T: Copy + Default>(values: &[T], row: usize) -> T {
    let value = if values.len() == 1 {
        values.first()
    } else {
        values.get(row)
    };
    value.copied().unwrap_or_default()
}

fn combine_rows(some: &[u64], others: &[u64], combine: impl Fn(u64, u64) -> u64) -> Vec<u64> {
    let rows = 0..some.len().max(others.len());
    rows.map(|row| combine(value_in_row(some, row), value_in_row(others, row)))
        .collect()
}

/// Returns the products, row by row.
fn products(some: &[u64], others: &[u64]) -> Vec<u64> {
    combine_rows(some, others, u64::saturating_mul)
}

fn integers(values: &dyn Array) -> Result<Vec<i64>> {
    let values = cast(values, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    Ok(values.iter().map(Option::unwrap_or_default).collect())
}

/// Converts integers to counts; negative ones become 0.
fn numbers(values: &dyn Array) -> Result<Vec<u64>> {
    let values = integers(values)?.into_iter();
    Ok(values
        .map(|value| u64::try_from(value).unwrap_or(0))
        .collect())
}

/// Returns the lengths of texts in bytes, or of lists in values. For other types, returns the size of the whole array.
fn lengths(values: &ArrayRef) -> Vec<u64> {
    let known = match values.data_type() {
        DataType::Null => return vec![0],
        DataType::Dictionary(_, kind) => cast(values, kind).and_then(|values| length(&values)),
        _ => length(values),
    };
    let known = known
        .map_err(Into::into)
        .and_then(|lengths| numbers(&lengths));
    known.unwrap_or_else(|_| vec![memory_of(values)])
}

/// Returns the number of values between the first and the second argument, with the third as the step.
fn values_between(ends: &[ArrayRef]) -> Result<Vec<u64>> {
    let (start, stop, step) = match ends {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step] => (Some(start), stop, Some(step)),
        _ => return Ok(Vec::new()),
    };
    let start = start.map(points).transpose()?.unwrap_or_default();
    let stop = points(stop)?;
    let step = step.map(steps).transpose()?.unwrap_or_default();
    let rows = 0..start.len().max(stop.len()).max(step.len());
    let counts = rows.map(|row| {
        let distance = value_in_row(&stop, row) - value_in_row(&start, row);
        let step = value_in_row(&step, row).unsigned_abs().max(1);
        u64::try_from(distance.unsigned_abs() / step).unwrap_or(u64::MAX)
    });
    Ok(counts.collect())
}

/// Returns numbers unchanged, and times in nanoseconds.
fn points(values: &ArrayRef) -> Result<Vec<i128>> {
    let (values, unit) = match values.data_type().is_temporal() {
        true => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            (cast(values, &micros)?, 1_000)
        }
        false => (Arc::clone(values), 1),
    };
    let values = integers(&values)?.into_iter();
    Ok(values.map(|value| i128::from(value) * unit).collect())
}

/// Returns numbers unchanged, and intervals in nanoseconds, with months of 28 days. An interval whose months and days
/// have opposite signs may be close to zero, and counts as 0.
fn steps(values: &ArrayRef) -> Result<Vec<i128>> {
    if !matches!(values.data_type(), DataType::Interval(_)) {
        return points(values);
    }
    const DAY: i128 = 86_400_000_000_000;
    let spans = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    let nanos = spans.iter().map(|span| {
        let span = span.unwrap_or_default();
        let months = i128::from(span.months) * 28 * DAY;
        let rest = i128::from(span.days) * DAY + i128::from(span.nanoseconds);
        match months.signum() * rest.signum() {
            -1 => 0,
            _ => months + rest,
        }
    });
    Ok(nanos.collect())
}
