//! The summary of the readings in one bucket, the combination of summaries, and the columns that follow from them.

use super::column_values::ColumnValues;
use crate::rollup_schema::Quantity;

/// The values from which all columns of a rollup follow.
///
/// It has the sum and the squared deviations instead of the mean and the standard deviation, so that coarser buckets
/// can be computed from finer ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The number of distinct readings.
    pub count: u64,
    /// The sum of the values, rounded once (compensated summation).
    pub sum: f64,
    /// The sum of squared deviations from the mean.
    pub squares: f64,
    /// The minimum value.
    pub min: f64,
    /// The maximum value.
    pub max: f64,
    /// The value of the earliest reading.
    pub first: f64,
    /// The value of the latest reading.
    pub last: f64,
}

/// The summary of one minute of one asset, as small as possible, because a cell holds millions of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinuteRow {
    /// The minute, in minutes since the Unix epoch.
    pub minute: i32,
    count: u32,
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
}

impl MinuteRow {
    /// Summarises the values of one minute, in time order and without duplicate times. `values` must not be empty.
    ///
    /// A pure function of the slice: the same readings give the same bits, whatever their batches were.
    pub fn from_values(minute: i32, values: &[f64]) -> Self {
        let (first, last) = (
            values.first().copied().unwrap_or(f64::NAN),
            values.last().copied().unwrap_or(f64::NAN),
        );
        let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
        let (mut min, mut max) = (first, first);
        for &value in values {
            (sum, lost) = two_sum(sum, lost, value);
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
        }
        let sum = compensated_sum(sum, lost);
        let mean = sum / values.len() as f64;
        // Two passes: the squares of deviations do not cancel, unlike differences of squares (Chan, Golub and LeVeque
        // 1983).
        let mut squares = 0.0;
        for &value in values {
            let deviation = value - mean;
            squares += deviation * deviation;
        }
        Self {
            minute,
            count: values.len() as u32,
            sum,
            squares,
            min,
            max,
            first,
            last,
        }
    }

    /// Returns the number of distinct readings in the minute.
    pub const fn count(&self) -> u64 {
        self.count as u64
    }

    /// Returns the summary without the time.
    pub const fn summary(&self) -> Summary {
        Summary {
            count: self.count as u64,
            sum: self.sum,
            squares: self.squares,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
        }
    }
}

impl Summary {
    /// Returns the arithmetic mean.
    pub fn mean(&self) -> f64 {
        // Rounding can put the quotient outside of the range by its last digit; a mean is always inside.
        (self.sum / self.count as f64).clamp(self.min, self.max)
    }

    /// Returns the sample standard deviation (divisor `count - 1`), or `None` for a single reading.
    pub fn stddev(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }

    /// Combines finer buckets, given in time order, into one. Returns `None` if there are none.
    ///
    /// Squares are combined by the pairwise update of Chan, Golub and LeVeque (1983, equation 2.1b).
    pub fn combine(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?;
        let mut lost = 0.0;
        for part in parts {
            let (n, m) = (all.count as f64, part.count as f64);
            let delta = part.sum / m - compensated_sum(all.sum, lost) / n;
            all.squares += part.squares + delta * delta * (n * m / (n + m));
            (all.sum, lost) = two_sum(all.sum, lost, part.sum);
            all.count += part.count;
            all.min = if part.min < all.min {
                part.min
            } else {
                all.min
            };
            all.max = if part.max > all.max {
                part.max
            } else {
                all.max
            };
            all.last = part.last;
        }
        all.sum = compensated_sum(all.sum, lost);
        Some(all)
    }
}

/// Appends a quantity of each summary to the values of its column.
///
/// The match is outside the loops over rows, so that each loop is compiled for its quantity.
#[inline]
pub fn append_quantity(
    quantity: Quantity,
    summaries: impl Iterator<Item = Summary>,
    values: &mut ColumnValues,
) {
    match quantity {
        // The key of the bucket is not part of a summary.
        Quantity::AssetId | Quantity::Timestamp => {}
        Quantity::Value => values.append_doubles(summaries.map(|it| it.mean())),
        Quantity::Count => values.append_integers(summaries.map(|it| it.count as i64)),
        Quantity::Min => values.append_doubles(summaries.map(|it| it.min)),
        Quantity::Max => values.append_doubles(summaries.map(|it| it.max)),
        Quantity::First => values.append_doubles(summaries.map(|it| it.first)),
        Quantity::Last => values.append_doubles(summaries.map(|it| it.last)),
        Quantity::Stddev => values.append_optional_doubles(summaries.map(|it| it.stddev())),
    }
}

/// Adds `value` to `sum`, and the rounding error to `lost` (Knuth's TwoSum, TAOCP 4.2.2 theorem B).
#[inline(always)]
fn two_sum(sum: f64, lost: f64, value: f64) -> (f64, f64) {
    let total = sum + value;
    let virtual_value = total - sum;
    let error = (sum - (total - virtual_value)) + (value - virtual_value);
    (total, lost + error)
}

/// Returns the sum plus the rounding errors. A sum that overflowed stays infinite instead of becoming NaN.
#[inline(always)]
fn compensated_sum(sum: f64, lost: f64) -> f64 {
    if sum.is_finite() { sum + lost } else { sum }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Float64Type};
    use proptest::prelude::*;

    use super::*;
    use crate::rollup_schema::{Aggregation, Column, RollupSchema};

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    #[test]
    fn mean_of_cancelling_values_is_exact() {
        let row = MinuteRow::from_values(0, &[1e16, 1.0, -1e16]).summary();
        assert_eq!(row.mean(), 1.0 / 3.0);
        assert_eq!(
            (row.first, row.last, row.min, row.max),
            (1e16, -1e16, -1e16, 1e16)
        );
    }

    #[test]
    fn single_reading_has_no_stddev_and_overflow_has_a_mean() {
        assert_eq!(MinuteRow::from_values(0, &[3.5]).summary().stddev(), None);
        let huge = MinuteRow::from_values(0, &[f64::MAX, f64::MAX]).summary();
        assert_eq!(huge.mean(), f64::MAX);
    }

    /// Returns the columns of a bucket, each as a double.
    fn column_values(schema: &RollupSchema, summary: Summary) -> Vec<Option<f64>> {
        let columns = schema.columns().iter().map(|column| {
            let mut values = ColumnValues::with_capacity(column, 1);
            append_quantity(column.quantity, std::iter::once(summary), &mut values);
            let array = values.finish()?;
            assert_eq!(array.len(), 1, "{} has no value", column.name);
            let doubles = cast(&array, &DataType::Float64).unwrap();
            let doubles = doubles.as_primitive::<Float64Type>();
            doubles.is_valid(0).then(|| doubles.value(0))
        });
        columns.collect()
    }

    /// Aggregates a column over buckets as its declaration states. `columns` has the values of all columns by bucket.
    fn aggregate(
        schema: &RollupSchema,
        column: &Column,
        buckets: &[Vec<Option<f64>>],
    ) -> Option<f64> {
        let values = |quantity: Quantity| {
            let mut columns = schema.columns().iter();
            let at = columns.position(|it| it.quantity == quantity).unwrap();
            buckets.iter().map(move |bucket| bucket[at])
        };
        let own = || values(column.quantity).flatten();
        let weighted = || {
            values(Quantity::Count)
                .flatten()
                .zip(values(Quantity::Value).flatten())
        };
        let count: f64 = values(Quantity::Count).flatten().sum();
        let mean = weighted().map(|(count, mean)| count * mean).sum::<f64>() / count;
        match column.aggregation {
            Aggregation::Key => None,
            Aggregation::WeightedMean => Some(mean),
            Aggregation::Sum => Some(own().sum()),
            Aggregation::Min => own().reduce(f64::min),
            Aggregation::Max => own().reduce(f64::max),
            Aggregation::First => own().next(),
            Aggregation::Last => own().last(),
            Aggregation::PooledDeviation => {
                let within = weighted().zip(values(Quantity::Stddev));
                let squares = within.map(|((count, value), deviation)| {
                    deviation.map_or(0.0, |it| it * it * (count - 1.0))
                        + count * (value - mean).powi(2)
                });
                (count > 1.0).then(|| (squares.sum::<f64>() / (count - 1.0)).sqrt())
            }
        }
    }

    proptest! {
        /// Hours combine minutes as the declarations of the columns state.
        #[test]
        fn columns_of_combined_summary_equal_declared_aggregation(values in proptest::collection::vec(-1e6..1e6_f64, 1..100), size in 1..20_usize) {
            for schema in [RollupSchema::declared().clone(), RollupSchema::with_test_columns()] {
                let parts: Vec<Summary> = values.chunks(size).map(|chunk| MinuteRow::from_values(0, chunk).summary()).collect();
                let buckets: Vec<_> = parts.iter().map(|part| column_values(&schema, *part)).collect();
                let combined = column_values(&schema, Summary::combine(parts).unwrap());
                for (column, got) in schema.columns().iter().zip(combined) {
                    let want = aggregate(&schema, column, &buckets);
                    prop_assert_eq!(got.is_some(), want.is_some(), "{}", column.name);
                    prop_assert!(close(got.unwrap_or(0.0), want.unwrap_or(0.0)), "{}: {:?} {:?}", column.name, got, want);
                }
            }
        }

        #[test]
        fn summary_combined_from_parts_equals_whole(values in proptest::collection::vec(-1e6..1e6_f64, 1..200), size in 1..20_usize) {
            let whole = MinuteRow::from_values(0, &values).summary();
            let parts = values.chunks(size).map(|chunk| MinuteRow::from_values(0, chunk).summary());
            let combined = Summary::combine(parts).unwrap();
            prop_assert_eq!((combined.count, combined.min, combined.max, combined.first, combined.last),
                (whole.count, whole.min, whole.max, whole.first, whole.last));
            prop_assert!(close(combined.mean(), whole.mean()));
            prop_assert_eq!(combined.stddev().is_some(), whole.stddev().is_some());
            prop_assert!(close(combined.stddev().unwrap_or(0.0), whole.stddev().unwrap_or(0.0)));
        }
    }
}
