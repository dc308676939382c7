//! Reduces the readings of one asset in one file to minutes as they arrive.
//!
//! Raw data is nearly always sorted by time within an asset, so the readings of a minute are adjacent and need no hash
//! table: a run of readings is summarised in place. Readings out of order are always detected. A minute that appears
//! again, or whose readings are out of order, is a conflicting minute, and is decided later from its raw readings.

use super::summary::MinuteRow;

pub(super) const MICROS_PER_MINUTE: i64 = 60_000_000;
pub(super) const MINUTES_PER_DAY: i32 = 1_440;

/// Returns the minute of a timestamp in microseconds, in minutes since the Unix epoch. Plausible times fit (year 6000
/// at most).
#[inline(always)]
pub(super) const fn minute_of(timestamp: i64) -> i32 {
    timestamp.div_euclid(MICROS_PER_MINUTE) as i32
}

/// The readings of one asset in one file, as minutes in the order of their first appearance.
#[derive(Debug, Default)]
pub struct Series {
    rows: Vec<MinuteRow>,
    /// Minutes with a reading that is earlier than the one before it.
    conflicting: Vec<i32>,
    open: Option<OpenMinute>,
    /// The values of the open minute, in time order. They are kept so that a minute that spans two batches gives the
    /// same bits as one that does not.
    values: Vec<f64>,
    /// The number of readings that were earlier than the one before them.
    disorder: u64,
    /// The number of readings in `rows`.
    readings: u64,
    expected_per_minute: usize,
}

#[derive(Debug, Clone, Copy)]
struct OpenMinute {
    minute: i32,
    /// The first time after the minute, in microseconds.
    end: i64,
    /// The latest timestamp of the current run.
    last: i64,
    is_conflicting: bool,
}

/// The minutes of a finished series.
#[derive(Debug, Default)]
pub struct Minutes {
    /// The rows in order of appearance. Their minutes increase strictly unless the file was out of order.
    pub rows: Vec<MinuteRow>,
    /// Minutes to decide from raw readings, in addition to those that appear twice in `rows`.
    pub conflicting: Vec<i32>,
    /// Whether the minutes of `rows` increase strictly.
    pub ordered: bool,
    /// The number of readings in `rows`.
    pub readings: u64,
}

impl Minutes {
    /// Returns minutes without conflicts.
    pub fn from_rows(rows: Vec<MinuteRow>) -> Self {
        Self {
            ordered: rows.is_sorted_by(|a, b| a.minute < b.minute),
            readings: rows.iter().map(MinuteRow::count).sum(),
            rows,
            conflicting: Vec::new(),
        }
    }
}

impl Series {
    /// Creates a series with capacity for `rows`. Growing by doubling would write and copy twice as much memory.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// Returns the number of bytes held. Allocated memory that was never written does not count.
    pub fn bytes(&self) -> usize {
        self.rows.capacity().min(self.rows.len() * 2) * size_of::<MinuteRow>()
            + self.values.capacity() * 8
            + self.conflicting.capacity() * 4
    }

    /// Returns the number of readings that were earlier than the one before them.
    pub fn disorder(&self) -> u64 {
        self.disorder
    }

    /// Adds readings whose times increase strictly. Efficient for long slices.
    #[inline]
    pub fn push_sorted(&mut self, times: &[i64], values: &[f64]) {
        let (times, values) = match self.open {
            // Only the first reading can be out of order with the open minute.
            Some(open) if times.first().is_some_and(|&first| first <= open.last) => {
                self.push(times[0], values[0]);
                (&times[1..], &values[1..])
            }
            _ => (times, values),
        };
        let mut from = 0;
        if let Some(open) = self.open.as_mut() {
            // Readings that belong to the open minute.
            let rest = times.partition_point(|&time| time < open.end);
            if rest > 0 {
                self.values.extend_from_slice(&values[..rest]);
                open.last = times[rest - 1];
                from = rest;
            }
        }
        while from < times.len() {
            let minute = minute_of(times[from]);
            let end = (i64::from(minute) + 1) * MICROS_PER_MINUTE;
            let to = self.end_of_minute(times, from, end);
            self.close_minute();
            if to < times.len() {
                self.readings += (to - from) as u64;
                self.rows
                    .push(MinuteRow::from_values(minute, &values[from..to]));
            } else {
                self.values.extend_from_slice(&values[from..]);
                self.open = Some(OpenMinute {
                    minute,
                    end,
                    last: times[to - 1],
                    is_conflicting: false,
                });
            }
            from = to;
        }
    }

    /// Returns the index after the last reading before `end`. Sensors report at constant intervals, so the number of
    /// readings in the previous minute is tried first.
    #[inline(always)]
    fn end_of_minute(&mut self, times: &[i64], from: usize, end: i64) -> usize {
        let guess = from + self.expected_per_minute;
        if self.expected_per_minute > 0
            && guess < times.len()
            && times[guess - 1] < end
            && times[guess] >= end
        {
            return guess;
        }
        let mut to = from + 1;
        let mut step = 1;
        while to < times.len() && times[to] < end {
            step *= 2;
            to += step;
        }
        let low = (to - step).max(from);
        let to = low + times[low..to.min(times.len())].partition_point(|&time| time < end);
        self.expected_per_minute = to - from;
        to
    }

    /// Adds one reading, in any order.
    #[inline]
    pub fn push(&mut self, time: i64, value: f64) {
        if let Some(open) = self.open.as_mut() {
            if time > open.last {
                if time < open.end {
                    self.values.push(value);
                    open.last = time;
                    return;
                }
            } else if time == open.last && !open.is_conflicting {
                if let Some(last) = self.values.last_mut() {
                    *last = value;
                }
                return;
            } else {
                self.disorder += 1;
                if minute_of(time) == open.minute {
                    open.is_conflicting = true;
                    return;
                }
            }
        }
        self.close_minute();
        let minute = minute_of(time);
        self.open = Some(OpenMinute {
            minute,
            end: (i64::from(minute) + 1) * MICROS_PER_MINUTE,
            last: time,
            is_conflicting: false,
        });
        self.values.push(value);
    }

    fn close_minute(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.is_conflicting {
            self.conflicting.push(open.minute);
        } else {
            self.readings += self.values.len() as u64;
            self.rows
                .push(MinuteRow::from_values(open.minute, &self.values));
        }
        self.values.clear();
    }

    /// Ends the series and returns its minutes.
    pub fn finish(mut self) -> Minutes {
        self.close_minute();
        // The rows are held until the whole cell is written.
        self.rows.shrink_to_fit();
        Minutes {
            // Only a reading that is earlier than the one before it opens an earlier minute.
            ordered: self.disorder == 0,
            readings: self.readings,
            rows: self.rows,
            conflicting: self.conflicting,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(series: Series) -> Vec<(i32, u64, f64)> {
        series
            .finish()
            .rows
            .iter()
            .map(|row| (row.minute, row.count(), row.summary().mean()))
            .collect()
    }

    #[test]
    fn reading_at_start_of_minute_belongs_to_it() {
        let mut series = Series::default();
        series.push_sorted(
            &[0, 59_999_999, 60_000_000, 120_000_000],
            &[1.0, 2.0, 3.0, 4.0],
        );
        assert_eq!(rows(series), [(0, 2, 1.5), (1, 1, 3.0), (2, 1, 4.0)]);
    }

    #[test]
    fn readings_with_equal_times_count_once_and_last_wins() {
        let mut series = Series::default();
        series.push(10, 1.0);
        series.push(10, 2.0);
        series.push(11, 5.0);
        let minutes = series.finish();
        assert_eq!(
            (minutes.rows[0].count(), minutes.rows[0].summary().first),
            (2, 2.0)
        );
    }

    #[test]
    fn series_out_of_order_marks_or_repeats_the_minute() {
        let mut series = Series::default();
        for time in [10, 5, 60_000_000, 20] {
            series.push(time, 1.0);
        }
        assert_eq!(series.disorder(), 2);
        let minutes = series.finish();
        assert_eq!(minutes.conflicting, [0]);
        assert_eq!(
            minutes
                .rows
                .iter()
                .map(|row| row.minute)
                .collect::<Vec<_>>(),
            [1, 0]
        );
    }

    proptest! {
        /// The rows have the same bits however sorted readings are divided into batches.
        #[test]
        fn series_from_any_batches_has_same_rows(steps in proptest::collection::vec(1..40_000_000_i64, 1..200), cuts in proptest::collection::vec(0..200_usize, 0..12)) {
            let times: Vec<i64> = steps.iter().scan(-3_000_000_000, |time, step| { *time += step; Some(*time) }).collect();
            let values: Vec<f64> = (0..times.len()).map(|i| (i as f64 * 0.7).sin() * 100.0).collect();
            let mut one = Series::default();
            one.push_sorted(&times, &values);
            let mut single = Series::default();
            for (&time, &value) in times.iter().zip(&values) { single.push(time, value); }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(times.len())).collect();
            cuts.extend([0, times.len()]);
            cuts.sort_unstable();
            let mut many = Series::default();
            for pair in cuts.windows(2) { many.push_sorted(&times[pair[0]..pair[1]], &values[pair[0]..pair[1]]); }
            let one = one.finish().rows;
            prop_assert_eq!(&one, &single.finish().rows);
            prop_assert_eq!(&one, &many.finish().rows);
            prop_assert_eq!(one.iter().map(MinuteRow::count).sum::<u64>(), times.len() as u64);
        }
    }
}
