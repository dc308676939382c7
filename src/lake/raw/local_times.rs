//! Converts local times to UTC.

use std::sync::Arc;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

use super::repeated_periods::{RepeatedPeriod, repeated_periods};

const MICROS_PER_SECOND: i64 = 1_000_000;
/// The interval in microseconds for which an offset is cached. Clocks change at whole quarters of an hour.
const QUARTER_HOUR_MICROS: i64 = 900 * MICROS_PER_SECOND;

/// Converts local times of one time zone to UTC, and caches the offset of the last quarter of an hour.
pub(super) struct LocalTimes {
    zone: Tz,
    quarter: i64,
    offset: Option<i64>,
    periods: Arc<[RepeatedPeriod]>,
    /// The repeated period that overlaps the last quarter of an hour.
    current: Option<usize>,
}

impl LocalTimes {
    pub fn new(zone: Tz) -> Self {
        Self {
            zone,
            quarter: i64::MIN,
            offset: None,
            periods: repeated_periods(zone),
            current: None,
        }
    }

    /// Converts a local time to UTC, both in microseconds. An ambiguous time becomes the earlier instant. A time that
    /// is skipped when clocks go forward is moved forward by the length of the gap, as
    /// `java.time.ZonedDateTime.ofLocal` does.
    pub fn resolve(&mut self, local: i64) -> i64 {
        let quarter = local.div_euclid(QUARTER_HOUR_MICROS);
        if quarter != self.quarter {
            self.current = self.find_period(quarter);
            self.quarter = quarter;
            let (start, end) = (
                self.offset_at(quarter.saturating_mul(QUARTER_HOUR_MICROS)),
                self.offset_at((quarter + 1).saturating_mul(QUARTER_HOUR_MICROS) - 1),
            );
            self.offset = (start == end).then_some(start);
        }
        let offset = self.offset.unwrap_or_else(|| self.offset_at(local));
        local.saturating_sub(offset)
    }

    /// Returns the repeated period that contains the local time, which was resolved last.
    pub fn repeated_period(&self, local: i64) -> Option<usize> {
        self.current.filter(|&current| {
            let period = self.period(current);
            (period.start..period.end).contains(&local)
        })
    }

    /// Returns a repeated period by its index.
    pub fn period(&self, index: usize) -> RepeatedPeriod {
        self.periods[index]
    }

    fn find_period(&self, quarter: i64) -> Option<usize> {
        let start = quarter.saturating_mul(QUARTER_HOUR_MICROS);
        let end = start.saturating_add(QUARTER_HOUR_MICROS);
        let next = self.periods.partition_point(|period| period.end <= start);
        let period = self.periods.get(next)?;
        (period.start < end).then_some(next)
    }

    fn offset_at(&self, local: i64) -> i64 {
        let Some(time) = DateTime::from_timestamp_micros(local).map(|time| time.naive_utc()) else {
            return 0;
        };
        match self.zone.offset_from_local_datetime(&time) {
            MappedLocalTime::Single(offset) => offset_micros(&offset),
            // The earlier instant has the greater offset.
            MappedLocalTime::Ambiguous(a, b) => offset_micros(&a).max(offset_micros(&b)),
            MappedLocalTime::None => self.offset_before_gap(time),
        }
    }

    /// Returns the offset that applies before the gap that `time` is in.
    fn offset_before_gap(&self, mut time: NaiveDateTime) -> i64 {
        // The longest gap is a whole day, where a country crossed the date line; 26 hours are searched.
        for _ in 0..4 * 26 {
            time -= TimeDelta::minutes(15);
            match self.zone.offset_from_local_datetime(&time) {
                MappedLocalTime::Single(offset) => return offset_micros(&offset),
                MappedLocalTime::Ambiguous(a, b) => {
                    return offset_micros(&a).min(offset_micros(&b));
                }
                MappedLocalTime::None => {}
            }
        }
        0
    }
}

fn offset_micros(offset: &impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * MICROS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_follow_daylight_saving() {
        let mut times = LocalTimes::new(chrono_tz::Europe::Berlin);
        let mut utc = |text: &str| {
            let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
            DateTime::from_timestamp_micros(times.resolve(local.and_utc().timestamp_micros()))
                .unwrap()
                .naive_utc()
                .to_string()
        };
        for (local, instant) in [
            ("2024-01-15 12:00:00", "2024-01-15 11:00:00"),
            ("2024-07-15 12:00:00", "2024-07-15 10:00:00"),
            ("2024-03-31 01:59:59", "2024-03-31 00:59:59"),
            ("2024-03-31 02:30:00", "2024-03-31 01:30:00"),
            ("2024-03-31 03:00:00", "2024-03-31 01:00:00"),
            ("2024-10-27 02:30:00", "2024-10-27 00:30:00"),
            ("2024-10-27 03:00:00", "2024-10-27 02:00:00"),
        ] {
            assert_eq!(utc(local), instant, "{local}");
        }
    }
}
