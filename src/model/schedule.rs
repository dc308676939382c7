//! When something is due: a cron expression in a time zone, as instants.
//!
//! What happens where clocks are set forward or back depends on whether the expression names hours:
//!
//! - It does (`30 2 * * *`, `0 2,14 * * *`): each time of day comes once. One that does not exist on a day comes at the
//!   instant at which the clock jumps; one that exists twice comes the first time.
//! - It does not (`*/15 * * * *`, `0 */2 * * *`): it goes on by what has passed. What the clock leaves out is left out, and
//!   what it repeats comes again.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// No clock is set back by more at once.
const LONGEST_FOLD: TimeDelta = TimeDelta::hours(25);

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedSchedule(String);

/// A cron expression (`minute hour day month weekday`, or with seconds in front) in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: Tz,
    /// Whether the expression names hours, rather than any or every so many.
    names_hours: bool,
}

/// What fields count, and how many values each has, from the right: seconds may be missing.
const FIELDS: [(&str, u32); 6] = [
    ("weekday", 7),
    ("month", 12),
    ("day", 31),
    ("hour", 24),
    ("minute", 60),
    ("second", 60),
];

/// Refuses steps that are longer than their field: `*/90` in the minutes would be once an hour, and not every 90 minutes.
fn check_steps(fields: &[&str]) -> Result<(), MalformedSchedule> {
    for (field, (name, values)) in fields.iter().rev().zip(FIELDS) {
        for part in field.split(',') {
            let step = part.split_once('/').and_then(|(_, step)| step.parse().ok());
            if let Some(step) = step.filter(|step: &u32| *step > values) {
                return Err(MalformedSchedule(format!(
                    "has a step of {step} in {part}, and a {name} has only {values} values; a step begins anew with each round of its field"
                )));
            }
        }
    }
    Ok(())
}

impl Schedule {
    /// Reads a cron expression.
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
            MalformedSchedule(format!("is no cron expression ({text})"))
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
        // `0 0 30 2 *`
        match schedule.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(MalformedSchedule("names no date that there is".to_owned())),
        }
    }

    /// The zone that it is in.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The cron expression.
    pub fn expression(&self) -> &str {
        &self.text
    }

    /// The first time after `after`.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Schedules know seconds; what is within one belongs to its beginning.
        let local = after.trunc_subsecs(0).with_timezone(&self.zone);
        if !self.names_hours {
            let next = self.cron.find_next_occurrence(&local, false).ok()?;
            return Some(next.to_utc());
        }
        let mut wall = local.naive_local();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let at = self.instant(wall)?;
            // The other half of a repeated hour has passed these by.
            if at > after {
                return Some(at);
            }
        }
    }

    /// The last time at or before `at`.
    pub fn latest_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = at.trunc_subsecs(0).with_timezone(&self.zone);
        if !self.names_hours {
            let latest = self.cron.find_previous_occurrence(&local, true).ok()?;
            return Some(latest.to_utc());
        }
        let mut wall = local.naive_local();
        // In the second half of a repeated hour, later times of day have passed, too.
        if self.zone.from_local_datetime(&wall).latest()
            != self.zone.from_local_datetime(&wall).earliest()
        {
            wall += LONGEST_FOLD;
        }
        let mut inclusive = true;
        loop {
            wall = self.cron.find_previous_occurrence(&wall, inclusive).ok()?;
            let found = self.instant(wall)?;
            if found <= at {
                return Some(found);
            }
            inclusive = false;
        }
    }

    /// When it is first `wall` o'clock; where that does not exist, when the clock passes it by.
    fn instant(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        if let Some(at) = self.zone.from_local_datetime(&wall).earliest() {
            return Some(at.to_utc());
        }
        // Before the jump it is earlier than `wall`, and from it on later: where it becomes later is looked for.
        let offset = |at: NaiveDateTime| {
            self.zone
                .offset_from_utc_datetime(&at)
                .fix()
                .local_minus_utc()
        };
        let shows = |at: NaiveDateTime| at + TimeDelta::seconds(offset(at).into());
        let (mut before, mut from) = (wall - LONGEST_FOLD, wall + LONGEST_FOLD);
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

    /// The times from one to another, in short.
    fn times(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let mut at = instant(from);
        std::iter::from_fn(|| {
            at = schedule.next_after(at)?;
            (at <= instant(to)).then(|| at.format("%d %H:%M").to_string())
        })
        .collect()
    }

    #[test]
    fn a_time_that_does_not_exist_comes_once_right_after() {
        // At 01:00 UTC on the 30th, 02:00 becomes 03:00 in Berlin.
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
        // A whole day that did not exist: Samoa had no 30th.
        let samoa = schedule("0 12 * * *", Tz::Pacific__Apia);
        let found = times(&samoa, "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z");
        assert_eq!(found, ["29 22:00", "30 10:00", "30 22:00", "31 22:00"]);
    }

    #[test]
    fn a_time_that_exists_twice_comes_the_first_time() {
        // At 01:00 UTC on the 26th, 03:00 becomes 02:00 in Berlin.
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
    fn what_names_no_hours_goes_on_by_what_has_passed() {
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
    fn months_end_when_they_end() {
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
    fn mistakes_are_told() {
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
        /// Looking back finds what looking forward does, everywhere and always.
        #[test]
        fn back_is_the_reverse_of_forward(
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

        /// Hours around the days on which clocks are set.
        #[test]
        fn back_is_the_reverse_of_forward_where_clocks_are_set(
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
