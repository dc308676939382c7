//! What a call would make and how long it would work, from its arguments, before it is made.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::offered::{Bounds, Output, Work};
use super::pattern::{self, MAX_PATTERN_BYTES};

/// Steps for each byte of what is copied or looked through.
const STEPS_OF_A_BYTE: u64 = 2;
/// Steps for each byte of the values that are hashed, compared or copied one by one: some 250 for a value of eight bytes.
const STEPS_OF_A_VALUES_BYTE: u64 = 32;
/// The minimum size of a value of a list in bytes.
const MIN_VALUE_BYTES: u64 = 8;
/// The maximum size of a character in bytes.
const MAX_CHARACTER_BYTES: u64 = 4;
/// The maximum size of a number or an instant as a text, in bytes.
const MAX_NUMBER_TEXT_BYTES: u64 = 64;
/// Steps that it takes to compile a pattern, about.
const COMPILE_STEPS: u64 = 1 << 22;
/// The states that a pattern has which is not the same for all rows: it is not compiled to find out.
const ASSUMED_STATES: u64 = 1 << 13;
/// Steps that it takes to try one character of a pattern of LIKE.
const LIKE_STEPS: u64 = 8;
/// From this size on, a bound of what is replaced is made exact.
const EXACT_FROM_BYTES: u64 = 1 << 20;

/// For each row what a call makes in bytes and how many steps it takes, at most; a single value stands for all rows.
pub(super) struct Costs {
    pub output: Vec<u64>,
    pub work: Vec<u64>,
}

impl Costs {
    /// The costs of a call whose result and work are in proportion to its arguments, for all `rows` together: at most, and
    /// found without looking at a row.
    pub fn at_most(bounds: Bounds, arguments: &[ColumnarValue], rows: usize) -> Self {
        let sizes = arguments.iter().map(|value| match value {
            ColumnarValue::Scalar(value) => (value.size() as u64).saturating_mul(rows as u64),
            ColumnarValue::Array(values) => values.get_array_memory_size() as u64,
        });
        let bytes = sizes.fold(0, u64::saturating_add);
        Self {
            output: vec![bytes],
            work: vec![bytes.saturating_mul(steps_of_a_byte(bounds.work))],
        }
    }

    /// The costs of a call with these arguments, each of as many values as there are rows, or of one for all.
    pub fn of(bounds: Bounds, arguments: &[ColumnarValue]) -> Result<Self> {
        let columns = arguments.iter().map(|value| match value {
            ColumnarValue::Array(values) => Ok(Arc::clone(values)),
            ColumnarValue::Scalar(value) => value.to_array(),
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        Ok(Self {
            output: output(bounds.output, &columns)?,
            work: work(bounds, &columns)?,
        })
    }

    /// Bytes that all rows make.
    pub fn total_output(&self, rows: usize) -> u64 {
        total(&self.output, rows)
    }

    /// Steps that all rows take.
    pub fn total_work(&self, rows: usize) -> u64 {
        total(&self.work, rows)
    }
}

/// The sum over so many rows.
fn total(costs: &[u64], rows: usize) -> u64 {
    match costs {
        [one] => one.saturating_mul(rows as u64),
        costs => costs
            .iter()
            .fold(0, |sum: u64, cost| sum.saturating_add(*cost)),
    }
}

/// Steps for each byte of the arguments; none where it is not they that count.
fn steps_of_a_byte(work: Work) -> u64 {
    match work {
        Work::Linear => STEPS_OF_A_BYTE,
        Work::EachValue => STEPS_OF_A_VALUES_BYTE,
        _ => 0,
    }
}

/// The bytes of all arguments.
fn sizes_of_all(columns: &[ArrayRef]) -> Vec<u64> {
    columns.iter().fold(vec![0], |sum, column| {
        combined(&sum, &sizes(column), u64::saturating_add)
    })
}

/// The bytes of each value: of a text, or of a list with all that is in it. What is neither counts as the mean of all.
fn sizes(column: &ArrayRef) -> Vec<u64> {
    let mean = |values: &dyn Array| {
        let bytes = values.get_array_memory_size() / values.len().max(1);
        MIN_VALUE_BYTES.max(bytes as u64)
    };
    match column.data_type() {
        DataType::List(_) | DataType::LargeList(_) => {
            let mut inner = Arc::clone(column);
            let mut ends: Vec<usize> = (0..=column.len()).collect();
            while let Some((values, within)) = within_lists(&inner, &ends) {
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

/// The values within lists, and where those of each row end, from where the lists of each row end; none if these are no
/// lists.
fn within_lists(lists: &ArrayRef, ends: &[usize]) -> Option<(ArrayRef, Vec<usize>)> {
    fn at<O: OffsetSizeTrait>(offsets: &[O], ends: &[usize]) -> Vec<usize> {
        let of = |end: &usize| offsets.get(*end).map_or(0, |offset| offset.as_usize());
        ends.iter().map(of).collect()
    }
    if let Some(lists) = lists.as_list_opt::<i32>() {
        return Some((Arc::clone(lists.values()), at(lists.value_offsets(), ends)));
    }
    let lists = lists.as_list_opt::<i64>()?;
    Some((Arc::clone(lists.values()), at(lists.value_offsets(), ends)))
}

fn output(output: Output, columns: &[ArrayRef]) -> Result<Vec<u64>> {
    Ok(match (output, columns) {
        (Output::Linear, columns) => sizes_of_all(columns),
        (Output::Concatenated, columns) => {
            let mut sum = vec![0];
            for column in columns {
                sum = combined(&sum, &lengths(column), u64::saturating_add);
            }
            sum
        }
        (Output::Repeated, [text, count, ..]) => products(&lengths(text), &numbers(count)?),
        (Output::Padded, [_, count, ..]) => products(&[MAX_CHARACTER_BYTES], &numbers(count)?),
        (Output::Listed, [list, count, rest @ ..]) => {
            let value = rest.first().unwrap_or(list);
            let width = value.get_array_memory_size() / value.len().max(1);
            let width = MIN_VALUE_BYTES.max(width as u64);
            products(&[width], &numbers(count)?)
        }
        (Output::Between, ends) => products(&[MIN_VALUE_BYTES], &values_between(ends)?),
        (Output::Joined, [list, separators @ ..]) => joined(list, separators),
        (Output::Replaced, [text, from, to]) => replaced(text, from, to),
        (Output::RegexReplaced, [text, _, to, ..]) => {
            // Each place gets a replacement, which may repeat what was found as often as it is long.
            combined(&lengths(text), &lengths(to), |text, to| {
                let places = text.saturating_add(1);
                places.saturating_mul(to.saturating_mul(2).saturating_add(1))
            })
        }
        _ => vec![0],
    })
}

fn work(bounds: Bounds, columns: &[ArrayRef]) -> Result<Vec<u64>> {
    let by_size =
        |columns: &[ArrayRef], work| products(&sizes_of_all(columns), &[steps_of_a_byte(work)]);
    Ok(match (bounds.work, columns) {
        (work, columns) if bounds.are_in_proportion() => by_size(columns, work),
        (Work::TextProduct, [one, other, ..]) => products(&lengths(one), &lengths(other)),
        (Work::ListProduct, [one, other, ..]) => combined(
            &products(&lengths(one), &lengths(other)),
            &by_size(columns, Work::EachValue),
            u64::saturating_add,
        ),
        (Work::Search, [text, pattern, ..]) => searches(text, pattern, false),
        (Work::RepeatedSearch, [text, pattern, ..]) => searches(text, pattern, true),
        (Work::LikeSearch, [text, pattern, ..]) => {
            let (compile, steps) = match single_text(pattern) {
                Some(pattern) if is_simple_like(pattern) => return Ok(lengths(text)),
                Some(_) => (0, LIKE_STEPS),
                None => (COMPILE_STEPS, LIKE_STEPS),
            };
            combined(&lengths(text), &lengths(pattern), |text, pattern| {
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

/// Steps of searches for patterns: once in each text, or again from each match on.
fn searches(text: &ArrayRef, pattern: &ArrayRef, are_repeated: bool) -> Vec<u64> {
    let search = |text: u64, states: u64| {
        let once = text.saturating_add(1).saturating_mul(states);
        match are_repeated {
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
    combined(&lengths(text), &lengths(pattern), |text, pattern| {
        if pattern > MAX_PATTERN_BYTES {
            return u64::MAX;
        }
        search(text, ASSUMED_STATES).saturating_add(COMPILE_STEPS)
    })
}

/// Whether a pattern of LIKE is looked for without being compiled: only its ends may be open.
fn is_simple_like(pattern: &str) -> bool {
    let inside = pattern.strip_prefix('%').unwrap_or(pattern);
    let inside = inside.strip_suffix('%').unwrap_or(inside);
    !inside.contains(['%', '_', '\\'])
}

/// The text, if there is one for all rows.
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

/// Bytes of texts with `to` in every place of `from`.
fn replaced(text: &ArrayRef, from: &ArrayRef, to: &ArrayRef) -> Vec<u64> {
    let (texts, froms, tos) = (lengths(text), lengths(from), lengths(to));
    let rows = 0..texts.len().max(froms.len()).max(tos.len());
    let bytes = rows.map(|row| {
        let (length, from_length, to_length) =
            (in_row(&texts, row), in_row(&froms, row), in_row(&tos, row));
        let places = length.checked_div(from_length).unwrap_or(length + 1);
        let bound = length.saturating_add(places.saturating_mul(to_length));
        if bound < EXACT_FROM_BYTES {
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

/// Bytes of lists whose values are put together as texts.
fn joined(list: &ArrayRef, separators: &[ArrayRef]) -> Vec<u64> {
    let values = list.to_data();
    // Of lists within lists, all values are put together.
    let (mut leaves, mut inner) = (values.clone(), values.child_data().first().cloned());
    let of_list = inner.as_ref().map_or(0, |values| values.len()).max(1) as u64;
    while let Some(values) = inner {
        inner = values.child_data().first().cloned();
        leaves = values;
    }
    let leaf_count = leaves.len() as u64;
    let text_bytes = leaves.buffers().iter().map(|buffer| buffer.len() as u64);
    let text_bytes: u64 = text_bytes.sum();
    let mut widths = vec![
        (text_bytes / of_list)
            .saturating_add(MAX_NUMBER_TEXT_BYTES.saturating_mul(leaf_count.div_ceil(of_list))),
    ];
    let each = leaf_count.div_ceil(of_list);
    for separator in separators {
        let separators = products(&[each], &lengths(separator));
        widths = combined(&widths, &separators, u64::saturating_add);
    }
    products(&lengths(list), &widths)
}

/// The value of a row; one alone stands for all rows.
fn in_row<T: Copy + Default>(values: &[T], row: usize) -> T {
    let value = if values.len() == 1 {
        values.first()
    } else {
        values.get(row)
    };
    value.copied().unwrap_or_default()
}

fn combined(some: &[u64], others: &[u64], combine: impl Fn(u64, u64) -> u64) -> Vec<u64> {
    let rows = 0..some.len().max(others.len());
    rows.map(|row| combine(in_row(some, row), in_row(others, row)))
        .collect()
}

/// The products, row by row.
fn products(some: &[u64], others: &[u64]) -> Vec<u64> {
    combined(some, others, u64::saturating_mul)
}

fn integers(values: &dyn Array) -> Result<Vec<i64>> {
    let values = cast(values, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    Ok(values.iter().map(Option::unwrap_or_default).collect())
}

/// Counts; none is less than nothing.
fn numbers(values: &dyn Array) -> Result<Vec<u64>> {
    let values = integers(values)?.into_iter();
    Ok(values
        .map(|value| u64::try_from(value).unwrap_or(0))
        .collect())
}

/// The bytes of texts, or the values of lists. Of what has neither, all that it holds.
fn lengths(values: &ArrayRef) -> Vec<u64> {
    let known = match values.data_type() {
        DataType::Null => return vec![0],
        DataType::Dictionary(_, kind) => cast(values, kind).and_then(|values| length(&values)),
        _ => length(values),
    };
    let known = known
        .map_err(Into::into)
        .and_then(|lengths| numbers(&lengths));
    known.unwrap_or_else(|_| vec![values.get_array_memory_size() as u64])
}

/// How many values are between the first ends and the second, with the third as the step.
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
        let distance = in_row(&stop, row) - in_row(&start, row);
        let step = in_row(&step, row).unsigned_abs().max(1);
        u64::try_from(distance.unsigned_abs() / step).unwrap_or(u64::MAX)
    });
    Ok(counts.collect())
}

/// Numbers as they are, and times in nanoseconds.
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

/// Numbers as they are, and spans in nanoseconds, the months short. A span that goes ahead by months and back by days may
/// get nowhere, and counts as the shortest.
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
