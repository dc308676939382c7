//! Schedules: a cron expression in a time zone, evaluated as instants.
//!
//! The behaviour at clock changes depends on whether the expression names hours:
//!
//! - If it names hours (`30 2 * * *`, `0 2,14 * * *`), each time of day occurs once. A time that does not exist on a
//!   day occurs at the instant at which the clock jumps. A time that exists twice occurs the first time.
//! - If it does not (`*/15 * * * *`, `0 */2 * * *`), it follows elapsed time. Times that the clock skips do not
//!   occur, and times that it repeats occur again.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// An upper bound on the amount by which a clock changes at once.
const MAX_CLOCK_CHANGE: TimeDelta = TimeDelta::hours(25);

/// The error for a text that is not a valid schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedSchedule(String);

/// A cron expression (`minute hour day month weekday`, or with seconds in front) in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: Tz,
    /// Whether the expression names hours, rather than any hour or a step.
    names_hours: bool,
}

/// The names of the fields and their numbers of values, from right to left: the seconds are optional.
const FIELDS: [(&str, u32); 6] = [
    ("weekday", 7),
    ("month", 12),
    ("day", 31),
    ("hour", 24),
    ("minute", 60),
    ("second", 60),
];

/// Rejects steps that exceed the range of their field: `*/90` in the minutes would mean once an hour, not every 90
/// minutes.
fn check_steps(fields: &[&str]) -> Result<(), MalformedSchedule> {
    for (field, (name, values)) in fields.iter().rev().zip(FIELDS) {
        for part in field.split(',') {
            let step = part.split_once('/').and_then(|(_, step)| step.parse().ok());
            if let Some(step) = step.filter(|step: &u32| *step > values) {
                return Err(MalformedSchedule(format!(
                    "has a step of {step} in {part}, but a {name} has only {values} values; steps restart in each \
                     round of their field"
                )));
            }
        }
    }
    Ok(())
}

impl Schedule {
    /// Parses a cron expression.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, MalformedSchedule> {
        let text = text.trim();
        if text.contains('@') {
            return Err(MalformedSchedule(
                "is a nickname; write the five fields".to_owned(),
            ));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| {
            let text = error.to_string();
            let text = text.trim_end_matches('.');
            let text = ["Invalid pattern: ", "Component error: "]
                .iter()
                .fold(text, |text, prefix| {
                    text.strip_prefix(prefix).unwrap_or(text)
                });
            MalformedSchedule(format!("is not a cron expression ({text})"))
        })?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        check_steps(&fields)?;
        let hours = fields.len().checked_sub(4).and_then(|at| fields.get(at));
        let schedule = Self {
            names_hours: hours.is_some_and(|hours| !hours.contains('*')),
            text: fields.join(" "),
            cron,
            zone,
        };
        // Rejects dates that never occur: `0 0 30 2 *`.
        match schedule.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(MalformedSchedule("names no date that exists".to_owned())),
        }
    }

    /// Returns the time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Returns the cron expression.
    pub fn expression(&self) -> &str {
        &self.text
    }

    /// Returns the first scheduled time after `after`.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Schedules have a resolution of one second, so fractions are cut off.
        let local = after.trunc_subsecs(0).with_timezone(&self.zone);
        if !self.names_hours {
            let next = self.cron.find_next_occurrence(&local, false).ok()?;
            return Some(next.to_utc());
        }
        let mut wall = local.naive_local();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let at = self.to_instant(wall)?;
            // In the second half of a repeated hour, earlier occurrences can lie before `after`.
            if at > after {
                return Some(at);
            }
        }
    }

    /// Returns the last scheduled time at or before `at`.
    pub fn latest_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = at.trunc_subsecs(0).with_timezone(&self.zone);
        if !self.names_hours {
            let latest = self.cron.find_previous_occurrence(&local, true).ok()?;
            return Some(latest.to_utc());
        }
        let mut wall = local.naive_local();
        // In the second half of a repeated hour, later times of day have already occurred.
        if self.zone.from_local_datetime(&wall).latest()
            != self.zone.from_local_datetime(&wall).earliest()
        {
            wall += MAX_CLOCK_CHANGE;
        }
        let mut inclusive = true;
        loop {
            wall = self.cron.find_previous_occurrence(&wall, inclusive).ok()?;
            let found = self.to_instant(wall)?;
            if found <= at {
                return Some(found);
            }
            inclusive = false;
        }
    }

    /// Returns the first instant with the local time `wall`. If that time does not exist, returns the instant at
    /// which the clock skips it.
    fn to_instant(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        if let Some(at) = self.zone.from_local_datetime(&wall).earliest() {
            return Some(at.to_utc());
        }
        // Bisects for the jump: the local time is before `wall` up to the jump, and after `wall` from then on.
        let offset = |at: NaiveDateTime| {
            self.zone
                .offset_from_utc_datetime(&at)
                .fix()
                .local_minus_utc()
        };
        let shows = |at: NaiveDateTime| at + TimeDelta::seconds(offset(at).into());
        let (mut before, mut from) = (wall - MAX_CLOCK_CHANGE, wall + MAX_CLOCK_CHANGE);
        while from - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((from - before).num_seconds() / 2);
            match shows(middle) > wall {
                true => from = middle,
                false => before = middle,
            }
        }
        Some(from.and_utc())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(text: &str, zone: Tz) -> Schedule {
        Schedule::parse(text, zone).unwrap()
    }

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Returns the scheduled times between two instants, as `day hour:minute` in UTC.
    fn times(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let mut at = instant(from);
        std::iter::from_fn(|| {
            at = schedule.next_after(at)?;
            (at <= instant(to)).then(|| at.format("%d %H:%M").to_string())
        })
        .collect()
    }

    #[test]
    fn next_after_of_skipped_time_occurs_once_at_the_jump() {
        // At 01:00 UTC on the 30th, Berlin moves from 02:00 to 03:00.
        let night = ("2025-03-29T12:00:00Z", "2025-03-31T12:00:00Z");
        for text in ["30 2 * * *", "0,15,30,45 2 * * *", "0-59 2 * * *"] {
            let found = times(
                &schedule(text, Tz::Europe__Berlin),
                night.0,
                "2025-03-30T12:00:00Z",
            );
            assert_eq!(found, ["30 01:00"], "{text}");
        }
        let both = schedule("30 2,3 * * *", Tz::Europe__Berlin);
        assert_eq!(
            times(&both, night.0, night.1),
            ["30 01:00", "30 01:30", "31 00:30", "31 01:30"]
        );
        // A whole day that did not exist: Samoa skipped 30 December 2011.
        let samoa = schedule("0 12 * * *", Tz::Pacific__Apia);
        let found = times(&samoa, "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z");
        assert_eq!(found, ["29 22:00", "30 10:00", "30 22:00", "31 22:00"]);
    }

    #[test]
    fn next_after_of_repeated_time_occurs_the_first_time() {
        // At 01:00 UTC on the 26th, Berlin moves from 03:00 back to 02:00.
        let night = ("2025-10-25T12:00:00Z", "2025-10-26T12:00:00Z");
        for (text, expected) in [
            ("30 2 * * *", vec!["26 00:30"]),
            ("0,30 2 * * *", vec!["26 00:00", "26 00:30"]),
            ("30 1-3 * * *", vec!["25 23:30", "26 00:30", "26 02:30"]),
        ] {
            assert_eq!(
                times(&schedule(text, Tz::Europe__Berlin), night.0, night.1),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn next_after_without_named_hours_follows_elapsed_time() {
        let hourly = schedule("0 * * * *", Tz::Europe__Berlin);
        for (from, hours) in [("2025-03-29T23:00:00Z", 23), ("2025-10-25T22:00:00Z", 25)] {
            let from = instant(from);
            let mut at = from;
            for hour in 1..=hours {
                at = hourly.next_after(at).unwrap();
                assert_eq!(at, from + TimeDelta::hours(hour));
            }
        }
    }

    #[test]
    fn next_after_of_month_end_follows_month_length() {
        let last = schedule("0 0 L * *", Tz::UTC);
        assert_eq!(
            times(&last, "2024-01-15T00:00:00Z", "2024-05-15T00:00:00Z"),
            ["31 00:00", "29 00:00", "31 00:00", "30 00:00"]
        );
        let thirty_first = schedule("0 0 31 * *", Tz::UTC);
        let found = times(
            &thirty_first,
            "2025-01-01T00:00:00Z",
            "2025-06-01T00:00:00Z",
        );
        assert_eq!(found.len(), 3, "January, March and May: {found:?}");
        let leap = schedule("0 0 29 2 *", Tz::UTC);
        assert_eq!(
            leap.next_after(instant("2025-01-01T00:00:00Z")),
            Some(instant("2028-02-29T00:00:00Z"))
        );
    }

    #[test]
    fn parse_rejects_malformed_expressions() {
        for (text, part) in [
            ("", "cron expression"),
            ("* * * *", "5"),
            ("61 * * * *", "cron expression"),
            ("*/61 * * * *", "step of 61 in */61"),
            ("0 0 * * 1-5/8", "weekday has only 7"),
            ("*/90 0 0 * * *", "second has only 60"),
            ("0 0 30 2 *", "no date"),
            ("0 0 * * * * 2026", "years"),
            ("@daily", "five fields"),
        ] {
            let error = Schedule::parse(text, Tz::UTC).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(
            schedule(" */5  * * * * ", Tz::UTC).to_string(),
            "*/5 * * * * UTC"
        );
    }

    const TEXTS: [&str; 8] = [
        "*/15 * * * *",
        "0 * * * *",
        "30 2 * * *",
        "0,20,40 1-3 * * *",
        "0 0 L * *",
        "15 3 * * SUN",
        "0 */6 * * *",
        "59 23 31 * *",
    ];
    const ZONES: [Tz; 6] = [
        Tz::UTC,
        Tz::Europe__Berlin,
        Tz::America__New_York,
        Tz::Australia__Lord_Howe,
        Tz::Asia__Kathmandu,
        Tz::America__Sao_Paulo,
    ];

    proptest! {
        /// `latest_at` finds the times that `next_after` finds, in all zones.
        #[test]
        fn latest_at_inverts_next_after(
            text in prop::sample::select(&TEXTS[..]),
            zone in prop::sample::select(&ZONES[..]),
            // From 2015 to 2027.
            seconds in 1_420_070_400_i64..1_800_000_000,
        ) {
            let schedule = schedule(text, zone);
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            let next = schedule.next_after(at).unwrap();
            prop_assert!(next > at);
            prop_assert_eq!(schedule.latest_at(next), Some(next));
            let before = schedule.latest_at(next - TimeDelta::seconds(1)).unwrap();
            prop_assert!(before <= at, "{} comes before {}, which was next after {}", before, next, at);
            prop_assert_eq!(schedule.next_after(before), Some(next));
            prop_assert_eq!(schedule.latest_at(at), Some(before));
        }

        /// Repeats the test for instants near clock changes.
        #[test]
        fn latest_at_inverts_next_after_near_clock_changes(
            text in prop::sample::select(&TEXTS[..]),
            day in prop::sample::select(&["2025-03-30", "2025-10-26", "2025-03-09", "2025-11-02", "2025-04-06", "2025-10-05"][..]),
            zone in prop::sample::select(&ZONES[..]),
            seconds in -86_400_i64..2 * 86_400,
        ) {
            let schedule = schedule(text, zone);
            let at = instant(&format!("{day}T00:00:00Z")) + TimeDelta::seconds(seconds);
            let next = schedule.next_after(at).unwrap();
            let before = schedule.latest_at(at).unwrap();
            prop_assert!(before <= at && at < next);
            prop_assert_eq!(schedule.next_after(before), Some(next));
            prop_assert_eq!(schedule.latest_at(next), Some(next));
        }
    }
}
