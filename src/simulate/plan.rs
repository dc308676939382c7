//! The input of a simulation: the plan as given, and the schedule of a valid plan.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::model::{MICROS_PER_DAY, day_from_date};

/// The maximum number of assets with readings in one simulation; the catalog is generated in memory.
const MAX_ASSETS: usize = 100_000;
/// The maximum number of readings in one simulation: about five terabytes.
const MAX_READINGS: u128 = 1_000_000_000_000;

/// The shape of the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A daily cycle with white noise, one reading at every tick, no faults.
    Clean,
    /// Daily cycles, autocorrelated noise, set-point steps, values in steps of the sensor's resolution, jittering
    /// clocks, and faults.
    Realistic,
}

/// The plan of a simulation, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The number of assets with readings (sensors); their equipment is added.
    pub assets: usize,
    /// The number of whole UTC days.
    pub days: u32,
    /// The first day; without it `days` before today (UTC), so that yesterday is the last day.
    pub start: Option<NaiveDate>,
    /// The time between two readings of an asset.
    pub interval: Duration,
    /// The seed. Two simulations with the same plan and seed give the same bytes.
    pub seed: u64,
    /// The shape of the readings.
    pub shape: Shape,
}

/// The reason for which a plan is invalid.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The number of assets is 0 or too large.
    #[error("cannot simulate {0} assets; use 1 to {MAX_ASSETS} (several lakes can hold more)")]
    Assets(usize),
    /// The number of days is 0.
    #[error("cannot simulate 0 days; use at least 1")]
    NoDays,
    /// The interval is too short or too long.
    #[error("cannot simulate an interval of {0:?}; use 1ms to 1 day (24h)")]
    Interval(Duration),
    /// The text is not an interval.
    #[error(
        "invalid interval {text:?}; use a whole number above 0 and its unit, such as 500ms, 10s, 1m or 1h"
    )]
    IntervalText {
        /// The text.
        text: String,
    },
    /// The days are outside the years 1 to 9999.
    #[error(
        "cannot simulate {days} days from {start}: they exceed the years 1 to 9999; use an earlier --start or fewer days"
    )]
    Dates {
        /// The first day.
        start: NaiveDate,
        /// The number of days.
        days: u32,
    },
    /// The first day would be before the year 1.
    #[error(
        "cannot simulate the {days} days before today: they start before the year 1; use fewer days"
    )]
    DaysBeforeToday {
        /// The number of days.
        days: u32,
    },
    /// There are more than 10^12 readings.
    #[error(
        "cannot simulate {0} readings: the limit is {MAX_READINGS}; use fewer assets or days, or a longer interval"
    )]
    Readings(u128),
}

/// Parses an interval: `500ms`, `10s`, `1m`, `1h`.
pub fn parse_interval(text: &str) -> Result<Duration, PlanError> {
    let wrong = || PlanError::IntervalText {
        text: text.chars().take(40).collect(),
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(millis) {
        Some(0) | None => Err(wrong()),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

/// A validated plan with a fixed start, which is stored beside the generated files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The number of assets with readings.
    pub assets: usize,
    /// The number of days.
    pub days: u32,
    /// The first day (UTC).
    pub start: NaiveDate,
    /// The time between two readings of an asset, in microseconds.
    pub interval_us: i64,
    /// The seed.
    pub seed: u64,
    /// The shape of the readings.
    pub shape: Shape,
}

impl Plan {
    /// Validates the plan and fixes its start.
    pub fn schedule(&self) -> Result<Schedule, PlanError> {
        if !(1..=MAX_ASSETS).contains(&self.assets) {
            return Err(PlanError::Assets(self.assets));
        }
        if self.days == 0 {
            return Err(PlanError::NoDays);
        }
        if self.interval < Duration::from_millis(1) || self.interval > Duration::from_hours(24) {
            return Err(PlanError::Interval(self.interval));
        }
        let start = match self.start {
            Some(start) => start,
            None => clock::now()
                .date_naive()
                .checked_sub_days(Days::new(self.days.into()))
                .filter(|start| *start >= first_date())
                .ok_or(PlanError::DaysBeforeToday { days: self.days })?,
        };
        let last = start.checked_add_days(Days::new(u64::from(self.days) - 1));
        if start < first_date() || last.is_none_or(|last| last > last_date()) {
            return Err(PlanError::Dates {
                start,
                days: self.days,
            });
        }
        let schedule = Schedule {
            assets: self.assets,
            days: self.days,
            start,
            interval_us: self.interval.as_micros() as i64,
            seed: self.seed,
            shape: self.shape,
        };
        let readings = u128::from(schedule.ticks()) * self.assets as u128;
        if readings > MAX_READINGS {
            return Err(PlanError::Readings(readings));
        }
        Ok(schedule)
    }
}

impl Schedule {
    /// Returns the first instant, in microseconds since the epoch.
    pub fn start_us(&self) -> i64 {
        i64::from(day_from_date(self.start)) * MICROS_PER_DAY
    }

    /// Returns the first instant after the last day, in microseconds since the epoch.
    pub fn end_us(&self) -> i64 {
        self.start_us() + i64::from(self.days) * MICROS_PER_DAY
    }

    /// Returns the number of ticks: the number of readings of an asset without faults.
    pub fn ticks(&self) -> u64 {
        ((self.end_us() - self.start_us()) as u64).div_ceil(self.interval_us as u64)
    }
}

fn first_date() -> NaiveDate {
    NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or(NaiveDate::MIN)
}

fn last_date() -> NaiveDate {
    NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or(NaiveDate::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            assets: 3,
            days: 2,
            start: NaiveDate::from_ymd_opt(2026, 1, 1),
            interval: Duration::from_secs(10),
            seed: 1,
            shape: Shape::Clean,
        }
    }

    #[test]
    fn parse_interval_accepts_number_with_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m", 60_000),
            (" 2 h ", 7_200_000),
        ] {
            assert_eq!(
                parse_interval(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in [
            "",
            "10",
            "s",
            "0s",
            "-10s",
            "1.5s",
            "10 parsecs",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            let error = parse_interval(text).unwrap_err().to_string();
            assert!(
                error.contains("such as 500ms, 10s, 1m or 1h"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn schedule_of_invalid_plan_gives_reason() {
        let check = |plan: Plan, said: &str| {
            let error = plan.schedule().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        };
        check(
            Plan {
                assets: 0,
                ..plan()
            },
            "use 1 to 100000",
        );
        check(
            Plan {
                assets: usize::MAX,
                ..plan()
            },
            "use 1 to 100000",
        );
        check(Plan { days: 0, ..plan() }, "at least 1");
        check(
            Plan {
                interval: Duration::ZERO,
                ..plan()
            },
            "use 1ms to 1 day",
        );
        check(
            Plan {
                interval: Duration::MAX,
                ..plan()
            },
            "use 1ms to 1 day",
        );
        check(
            Plan {
                start: NaiveDate::from_ymd_opt(9999, 12, 31),
                ..plan()
            },
            "exceed the years 1 to 9999",
        );
        check(
            Plan {
                start: NaiveDate::from_ymd_opt(0, 12, 31),
                ..plan()
            },
            "exceed the years 1 to 9999",
        );
        check(
            Plan {
                start: Some(NaiveDate::MAX),
                days: u32::MAX,
                ..plan()
            },
            "exceed the years 1 to 9999",
        );
        check(
            Plan {
                start: None,
                days: u32::MAX,
                ..plan()
            },
            "before the year 1",
        );
        let long = Plan {
            assets: 100_000,
            days: 100_000,
            interval: Duration::from_millis(1),
            ..plan()
        };
        check(
            Plan {
                start: NaiveDate::from_ymd_opt(1, 1, 1),
                ..long
            },
            "use fewer assets",
        );
    }

    #[test]
    fn schedule_accepts_last_day_of_calendar() {
        let schedule = Plan {
            days: 1,
            start: NaiveDate::from_ymd_opt(9999, 12, 31),
            ..plan()
        }
        .schedule()
        .unwrap();
        assert_eq!(schedule.ticks(), 8_640);
        let default = Plan {
            start: None,
            ..plan()
        }
        .schedule()
        .unwrap();
        assert_eq!(default.start + Days::new(2), clock::now().date_naive());
    }

    #[test]
    fn ticks_of_indivisible_interval_stay_inside_days() {
        let schedule = Plan {
            interval: Duration::from_secs(7 * 3_600),
            ..plan()
        }
        .schedule()
        .unwrap();
        assert_eq!(schedule.ticks(), 7); // 0, 7, …, 42 of 48 hours
    }
}
