//! The periods of local time that occur twice, because clocks are set back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// The first and the last second in which changes of clocks are searched: the years 1900 to 2100. The database of time
/// zones has no later ones.
const FIRST_SECOND: i64 = -2_208_988_800;
const LAST_SECOND: i64 = 4_133_980_800;

/// A period of local time that occurs twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RepeatedPeriod {
    /// The first local time, in microseconds.
    pub start: i64,
    /// The end of the period, exclusive.
    pub end: i64,
    /// The difference between local time and UTC before the clocks are set back, in microseconds.
    first_offset: i64,
    /// The difference afterwards.
    second_offset: i64,
}

impl RepeatedPeriod {
    /// Returns the later instant of a local time, in UTC microseconds.
    pub fn second(&self, local: i64) -> i64 {
        local.saturating_sub(self.second_offset)
    }

    /// Returns the first and the last instant of both occurrences, in UTC microseconds.
    pub fn instants(&self) -> (i64, i64) {
        (
            self.start - self.first_offset,
            self.end - self.second_offset - 1,
        )
    }
}

/// Returns the repeated periods of a time zone in ascending order.
pub(super) fn repeated_periods(zone: Tz) -> Arc<[RepeatedPeriod]> {
    static KNOWN: OnceLock<Mutex<HashMap<Tz, Arc<[RepeatedPeriod]>>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(known.entry(zone).or_insert_with(|| find_periods(zone)))
}

fn find_periods(zone: Tz) -> Arc<[RepeatedPeriod]> {
    let mut periods = Vec::new();
    let mut day = FIRST_SECOND;
    let mut before = offset_seconds(zone, day);
    while day < LAST_SECOND {
        let next = day + SECONDS_PER_DAY;
        let after = offset_seconds(zone, next);
        if after < before {
            let change = first_second_with(zone, after, day, next);
            periods.push(RepeatedPeriod {
                start: (change + after) * MICROS_PER_SECOND,
                end: (change + before) * MICROS_PER_SECOND,
                first_offset: before * MICROS_PER_SECOND,
                second_offset: after * MICROS_PER_SECOND,
            });
        }
        (day, before) = (next, after);
    }
    periods.into()
}

/// Returns the second after `from`, up to `to`, at which the offset becomes `offset`.
fn first_second_with(zone: Tz, offset: i64, mut from: i64, mut to: i64) -> i64 {
    while to - from > 1 {
        let middle = i64::midpoint(from, to);
        match offset_seconds(zone, middle) == offset {
            true => to = middle,
            false => from = middle,
        }
    }
    to
}

/// Returns the difference between local time and UTC at an instant.
fn offset_seconds(zone: Tz, second: i64) -> i64 {
    DateTime::from_timestamp(second, 0).map_or(0, |instant| {
        let offset = zone.offset_from_utc_datetime(&instant.naive_utc());
        i64::from(offset.fix().local_minus_utc())
    })
}

#[cfg(test)]
mod tests {
    use chrono::MappedLocalTime;

    use super::*;

    /// The periods agree with what the library of time zones states about each local time.
    #[test]
    fn periods_are_exactly_the_local_times_that_occur_twice() {
        for zone in [
            chrono_tz::Europe::Berlin,
            chrono_tz::Europe::Amsterdam,
            chrono_tz::America::Sao_Paulo,
            chrono_tz::Australia::Lord_Howe,
            chrono_tz::Atlantic::Azores,
            chrono_tz::Pacific::Kiritimati,
        ] {
            let periods = repeated_periods(zone);
            assert!(periods.is_sorted_by_key(|period| period.start), "{zone}");
            for period in periods.iter() {
                let middle = i64::midpoint(period.start, period.end);
                for (local, is_repeated) in [
                    (period.start - 1, false),
                    (period.start, true),
                    (middle, true),
                    (period.end - 1, true),
                    (period.end, false),
                ] {
                    let time = DateTime::from_timestamp_micros(local).unwrap().naive_utc();
                    let found = zone.offset_from_local_datetime(&time);
                    let twice = matches!(found, MappedLocalTime::Ambiguous(..));
                    assert_eq!(twice, is_repeated, "{zone} {time}");
                    if let MappedLocalTime::Ambiguous(one, other) = found {
                        let offsets = [one, other].map(|it| i64::from(it.fix().local_minus_utc()));
                        let least = offsets.into_iter().min().unwrap_or_default();
                        let later = local - least * MICROS_PER_SECOND;
                        assert_eq!(period.second(local), later, "{zone} {time}");
                    }
                }
            }
        }
        assert!(repeated_periods(Tz::UTC).is_empty());
        let berlin = repeated_periods(chrono_tz::Europe::Berlin);
        let first_of_2024 = 1_704_067_200 * MICROS_PER_SECOND;
        let in_2024 = berlin
            .iter()
            .find(|period| period.start > first_of_2024)
            .unwrap();
        // 2024-10-27T00:00:00Z to 02:00:00Z.
        assert_eq!(
            in_2024.instants(),
            (
                1_729_987_200 * MICROS_PER_SECOND,
                1_729_994_400 * MICROS_PER_SECOND - 1
            )
        );
    }
}
