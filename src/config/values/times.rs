//! Time zones, bounds of times, and durations.

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::names::check_not_empty;
use crate::config::spelling;
use crate::model::{MICROS_PER_DAY, day_from_date};

/// The maximum lifetime of an access token.
pub const MAX_TOKEN_LIFETIME: TimeDelta = TimeDelta::days(30);

/// A bound of the plausible time range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeBound {
    /// A fixed time, in microseconds since the epoch.
    At(i64),
    /// A distance from now in microseconds; negative values are in the past.
    FromNow(i64),
}

impl TimeBound {
    /// Returns the bound in microseconds since the epoch, if the current time is `now`.
    pub fn micros(self, now: DateTime<Utc>) -> i64 {
        match self {
            Self::At(instant) => instant,
            Self::FromNow(distance) => now.timestamp_micros().saturating_add(distance),
        }
    }
}

/// Parses the IANA name of a time zone; the error describes the problem.
pub fn timezone(text: &str) -> Result<Tz, String> {
    check_not_empty(text)?;
    text.trim().parse().map_err(|_| {
        let names = TZ_VARIANTS.iter().map(|zone| zone.name().to_owned());
        match spelling::nearest(text, '/', names) {
            Some(nearest) => format!("is not a known zone (the nearest is {nearest})"),
            None => "is not a known zone".to_owned(),
        }
    })
}

pub(in crate::config) fn earliest(text: &str) -> Result<TimeBound, String> {
    time_bound(text, 0)
}

pub(in crate::config) fn latest(text: &str) -> Result<TimeBound, String> {
    time_bound(text, MICROS_PER_DAY - 1)
}

/// Parses a bound of the time range. A date stands for the microsecond `within_day` of its day.
fn time_bound(text: &str, within_day: i64) -> Result<TimeBound, String> {
    check_not_empty(text)?;
    let text = text.trim();
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(TimeBound::At(
            i64::from(day_from_date(date)) * MICROS_PER_DAY + within_day,
        ));
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(TimeBound::At(instant.timestamp_micros()));
    }
    offset_micros(text)
        .map(TimeBound::FromNow)
        .ok_or_else(|| "is not a time".to_owned())
}

/// Parses `+1d` or `-12h` into microseconds.
fn offset_micros(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, text.get(1..)?),
        b'-' => (-1, text.get(1..)?),
        _ => return None,
    };
    let number = rest.strip_suffix(['d', 'h'])?;
    // `parse` would accept a second sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = number.parse().ok()?;
    let hours = if rest.ends_with('d') {
        number.checked_mul(24)?
    } else {
        number
    };
    TimeDelta::try_hours(hours)?
        .num_microseconds()?
        .checked_mul(sign)
}

/// Parses `15min`, `12h` or `7d`.
pub(in crate::config) fn token_lifetime(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::minutes(1)..=MAX_TOKEN_LIFETIME)
}

pub(in crate::config) fn timeout(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::seconds(1)..=TimeDelta::days(1))
}

/// Parses a duration like [`timeout`], but accepts zero too.
pub(in crate::config) fn retry_time(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::zero()..=TimeDelta::days(1))
}

/// Parses the length of a mirror window: `36h`, `90d`.
pub(in crate::config) fn window(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::hours(1)..=TimeDelta::days(36_500))
}

/// Parses a retention time; `None` for `forever`.
pub(in crate::config) fn retention_time(text: &str) -> Result<Option<TimeDelta>, String> {
    match text.trim() {
        "forever" => Ok(None),
        text => duration(text, TimeDelta::days(1)..=TimeDelta::days(36_500)).map(Some),
    }
}

/// Parses the grace time of unreferenced files. It is at most 5 days, because the Delta log forgets after 7 days
/// which files were removed.
pub(in crate::config) fn grace_period(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::hours(1)..=TimeDelta::days(5))
}

pub(in crate::config) fn history_time(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::days(1)..=TimeDelta::days(3_650))
}

/// Parses `30s`, `15min`, `12h`, `7d`; the error describes the problem. The crate `humantime` would also accept `1M` as a month,
/// `1.5h` and `1d12h`.
pub fn duration(text: &str, within: RangeInclusive<TimeDelta>) -> Result<TimeDelta, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number
        .parse()
        .map_err(|_| "does not begin with a whole number".to_owned())?;
    let duration = match unit.trim() {
        "s" => TimeDelta::try_seconds(number),
        "min" => TimeDelta::try_minutes(number),
        "h" => TimeDelta::try_hours(number),
        "d" => TimeDelta::try_days(number),
        _ => return Err("has no unit of s, min, h or d".to_owned()),
    };
    duration
        .filter(|duration| within.contains(duration))
        .ok_or_else(|| "is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_bound_of_date_is_first_or_last_instant() {
        assert_eq!(earliest("1970-01-02"), Ok(TimeBound::At(MICROS_PER_DAY)));
        assert_eq!(
            latest("1970-01-02"),
            Ok(TimeBound::At(2 * MICROS_PER_DAY - 1))
        );
        assert_eq!(latest("1970-01-01T01:00:00+01:00"), Ok(TimeBound::At(0)));
    }

    #[test]
    fn time_bound_accepts_distances_from_now() {
        assert_eq!(latest("+1d"), Ok(TimeBound::FromNow(MICROS_PER_DAY)));
        assert_eq!(
            earliest("-12h"),
            Ok(TimeBound::FromNow(-MICROS_PER_DAY / 2))
        );
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(TimeBound::FromNow(5).micros(now), 5);
        for text in [
            "1d",
            "+d",
            "+1",
            "+-1d",
            "+1m",
            "+99999999999999999d",
            "tomorrow",
        ] {
            assert!(latest(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timezone_unknown_suggests_the_nearest() {
        assert_eq!(timezone("Europe/Berlin"), Ok(Tz::Europe__Berlin));
        assert!(timezone("Europe/Berln").is_err_and(|problem| problem.contains("Europe/Berlin")));
    }

    #[test]
    fn token_lifetime_requires_unit_and_bounds() {
        assert_eq!(token_lifetime("15min"), Ok(TimeDelta::minutes(15)));
        assert_eq!(token_lifetime("30 d"), Ok(MAX_TOKEN_LIFETIME));
        for bad in ["", "12", "0min", "31d", "1.5h", "-1h", "99999999999999999d"] {
            assert!(token_lifetime(bad).is_err(), "{bad}");
        }
    }
}
