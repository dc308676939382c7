//! A half-open time window.

use super::dates::{DateSet, Day, MICROS_PER_DAY};

/// The window `[start, end)` in microseconds since the epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant inside the window.
    pub start: i64,
    /// The first instant after the window.
    pub end: i64,
}

/// Marks the time of a reading that may be either of two instants, because its local time occurs twice. No plausible time
/// is equal to it.
pub const AMBIGUOUS_TIME: i64 = i64::MIN + 1;

impl Window {
    /// The window of all timestamps in microseconds.
    pub const ALL: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    /// Creates the window of the whole days `first..=last`.
    pub const fn days(first: Day, last: Day) -> Self {
        Self {
            start: first as i64 * MICROS_PER_DAY,
            end: (last as i64 + 1) * MICROS_PER_DAY,
        }
    }

    /// Whether `timestamp` is inside the window.
    pub const fn contains(&self, timestamp: i64) -> bool {
        self.start <= timestamp && timestamp < self.end
    }

    /// Whether the closed span `min..=max` has an instant inside the window.
    pub const fn overlaps(&self, min: i64, max: i64) -> bool {
        min < self.end && max >= self.start
    }

    /// Whether the closed span `min..=max` lies entirely inside the window.
    pub const fn covers(&self, min: i64, max: i64) -> bool {
        self.start <= min && max < self.end
    }

    /// Returns the days that have an instant inside the window. Use it for bounded windows only.
    pub fn dates(&self) -> DateSet {
        if self.end <= self.start {
            return DateSet::default();
        }
        DateSet::range(
            super::dates::day_of(self.start),
            super::dates::day_of(self.end - 1),
        )
    }
}
