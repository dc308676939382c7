//! The summary of the readings in one bucket, the combination of summaries, and the columns that follow from them.

use super::column_values::ColumnValues;
use super::moments::{Moments, Part};
use crate::rollup_schema::Quantity;

/// The values from which all columns of a rollup follow.
///
/// It has the sum of squared deviations instead of the standard deviation, so that coarser buckets can be computed from
/// finer ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The number of distinct readings.
    pub count: u64,
    /// The sum of the values, and of their squared deviations from the mean.
    pub moments: Moments,
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
    moments: Moments,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
}

impl MinuteRow {
    /// Summarises the values of one minute, in time order and without duplicate times. `values` must be finite and not
    /// empty.
    ///
    /// A pure function of the slice: the same readings give the same bits, whatever their batches were.
    #[inline]
    pub fn from_values(minute: i32, values: &[f64]) -> Self {
        let (first, last) = (
            values.first().copied().unwrap_or(f64::NAN),
            values.last().copied().unwrap_or(f64::NAN),
        );
        let (moments, min, max) = Moments::from_values(values);
        Self {
            minute,
            count: values.len() as u32,
            moments,
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
            moments: self.moments,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
        }
    }
}

impl Summary {
    /// Returns the arithmetic mean, which is never outside of the range of the values.
    pub fn mean(&self) -> f64 {
        self.moments.mean(self.count, self.min, self.max)
    }

    /// Returns the sample standard deviation (divisor `count - 1`), or `None` for a single reading. It is exactly 0 if all
    /// readings are equal, and at most the largest double.
    pub fn stddev(&self) -> Option<f64> {
        (self.count > 1).then(|| self.moments.stddev(self.count, self.min, self.max))
    }

    /// Combines finer buckets, given in time order, into one. Returns `None` if there are none.
    pub fn combine(parts: impl Iterator<Item = Self> + Clone) -> Option<Self> {
        let mut others = parts.clone();
        let first = others.next()?;
        let mut all = first;
        for part in others {
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
        if all.count > first.count {
            let parts = parts.map(|part| Part {
                count: part.count,
                moments: part.moments,
                min: part.min,
                max: part.max,
            });
            all.moments = Moments::combine(parts, all.count, all.min, all.max);
        }
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
                let combined = column_values(&schema, Summary::combine(parts.into_iter()).unwrap());
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
