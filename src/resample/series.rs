//! One asset's readings from one file, reduced to minutes as they stream by.
//!
//! Raw data is nearly always in time order within an asset, so equal minutes stand next to each other and
//! need no hash table: a run of readings is summarised in place. What breaks the order is noticed, never
//! assumed away: a minute that was left and met again, or whose readings were out of order, is *contested*,
//! and decided later from its raw readings.

use super::summary::MinuteRow;

pub(super) const MICROS_PER_MINUTE: i64 = 60_000_000;
pub(super) const MINUTES_PER_DAY: i32 = 1_440;

/// Minutes since the epoch of a timestamp in microseconds. Plausible times fit (year 6000 at most).
#[inline(always)]
pub(super) const fn minute_of(timestamp: i64) -> i32 {
    timestamp.div_euclid(MICROS_PER_MINUTE) as i32
}

/// The readings of one asset in one file, as minutes in the order of their first appearance.
#[derive(Debug, Default)]
pub struct Series {
    rows: Vec<MinuteRow>,
    /// Minutes inside which a reading came before an earlier one.
    contested: Vec<i32>,
    open: Option<Open>,
    /// Values of the open minute, in time order; kept raw so that a minute that straddles two batches has
    /// the same bits as one that does not.
    values: Vec<f64>,
    /// Times that were earlier than the reading before them.
    disorder: u64,
    /// Readings in `rows`.
    readings: u64,
    guess: usize,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    minute: i32,
    /// The first instant after the minute.
    end: i64,
    /// The latest timestamp of the current run.
    last: i64,
    contested: bool,
}

/// A finished series.
#[derive(Debug, Default)]
pub struct Minutes {
    /// Rows in the order of appearance; strictly increasing unless the file was out of order.
    pub rows: Vec<MinuteRow>,
    /// Minutes that must be decided from raw readings, beside those that `rows` holds twice.
    pub contested: Vec<i32>,
    /// Whether `rows` is strictly increasing in time.
    pub ordered: bool,
    /// Readings in `rows`.
    pub readings: u64,
}

impl Minutes {
    /// Rows of which none is contested.
    pub fn of(rows: Vec<MinuteRow>) -> Self {
        Self {
            ordered: rows.is_sorted_by(|a, b| a.minute < b.minute),
            readings: rows.iter().map(MinuteRow::count).sum(),
            rows,
            contested: Vec::new(),
        }
    }
}

impl Series {
    /// A series with space for `rows`: growing by doubling would touch, and copy, twice as much memory.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// Bytes held; space that was set aside and never touched costs nothing.
    pub fn bytes(&self) -> usize {
        self.rows.capacity().min(self.rows.len() * 2) * size_of::<MinuteRow>()
            + self.values.capacity() * 8
            + self.contested.capacity() * 4
    }

    /// How many readings were earlier than the one before them.
    pub fn disorder(&self) -> u64 {
        self.disorder
    }

    /// Takes readings that are in strictly increasing order of time, as long slices.
    #[inline]
    pub fn push_sorted(&mut self, times: &[i64], values: &[f64]) {
        let (times, values) = match self.open {
            // Only the first reading can disturb the run that is open.
            Some(open) if times.first().is_some_and(|&first| first <= open.last) => {
                self.push(times[0], values[0]);
                (&times[1..], &values[1..])
            }
            _ => (times, values),
        };
        let mut from = 0;
        if let Some(open) = self.open.as_mut() {
            // The rest of the open minute.
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
            self.close();
            if to < times.len() {
                self.readings += (to - from) as u64;
                self.rows.push(MinuteRow::of(minute, &values[from..to]));
            } else {
                self.values.extend_from_slice(&values[from..]);
                self.open = Some(Open {
                    minute,
                    end,
                    last: times[to - 1],
                    contested: false,
                });
            }
            from = to;
        }
    }

    /// The index after the last reading before `end`. Sensors report at a steady pace, so the length of
    /// the minute before is tried first.
    #[inline(always)]
    fn end_of_minute(&mut self, times: &[i64], from: usize, end: i64) -> usize {
        let guess = from + self.guess;
        if self.guess > 0 && guess < times.len() && times[guess - 1] < end && times[guess] >= end {
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
        self.guess = to - from;
        to
    }

    /// Takes one reading, in whatever order.
    #[inline]
    pub fn push(&mut self, time: i64, value: f64) {
        if let Some(open) = self.open.as_mut() {
            if time > open.last {
                if time < open.end {
                    self.values.push(value);
                    open.last = time;
                    return;
                }
            } else if time == open.last && !open.contested {
                if let Some(last) = self.values.last_mut() {
                    *last = value;
                }
                return;
            } else {
                self.disorder += 1;
                if minute_of(time) == open.minute {
                    open.contested = true;
                    return;
                }
            }
        }
        self.close();
        let minute = minute_of(time);
        self.open = Some(Open {
            minute,
            end: (i64::from(minute) + 1) * MICROS_PER_MINUTE,
            last: time,
            contested: false,
        });
        self.values.push(value);
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.contested {
            self.contested.push(open.minute);
        } else {
            self.readings += self.values.len() as u64;
            self.rows.push(MinuteRow::of(open.minute, &self.values));
        }
        self.values.clear();
    }

    /// Ends the series.
    pub fn finish(mut self) -> Minutes {
        self.close();
        // Held until the whole cell is written.
        self.rows.shrink_to_fit();
        Minutes {
            // Only a reading that comes too early opens an earlier minute.
            ordered: self.disorder == 0,
            readings: self.readings,
            rows: self.rows,
            contested: self.contested,
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
            .map(|row| (row.minute, row.count(), row.summary().sum))
            .collect()
    }

    #[test]
    fn a_reading_at_the_start_of_a_minute_belongs_to_it() {
        let mut series = Series::default();
        series.push_sorted(
            &[0, 59_999_999, 60_000_000, 120_000_000],
            &[1.0, 2.0, 3.0, 4.0],
        );
        assert_eq!(rows(series), [(0, 2, 3.0), (1, 1, 3.0), (2, 1, 4.0)]);
    }

    #[test]
    fn the_later_of_two_equal_times_wins_and_counts_once() {
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
    fn disorder_inside_a_minute_is_contested_and_a_minute_met_again_appears_twice() {
        let mut series = Series::default();
        for time in [10, 5, 60_000_000, 20] {
            series.push(time, 1.0);
        }
        assert_eq!(series.disorder(), 2);
        let minutes = series.finish();
        assert_eq!(minutes.contested, [0]);
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
        /// However sorted readings are cut into batches, the rows have the same bits.
        #[test]
        fn cuts_do_not_matter(steps in proptest::collection::vec(1..40_000_000_i64, 1..200), cuts in proptest::collection::vec(0..200_usize, 0..12)) {
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
