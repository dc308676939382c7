//! Local times as instants, by the rules of Postgres, and texts of times with and without a zone.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::error::ArrowError;
use chrono::{FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result};

/// The label of instants.
pub(super) const UTC: &str = "UTC";

/// Returns the session's zone.
pub(super) fn session_zone(config: &ConfigOptions) -> Arc<str> {
    config.execution.time_zone.as_deref().unwrap_or(UTC).into()
}

/// The maximum number of bytes of a text that is parsed as a time, with its zone.
const MAX_TEXT_BYTES: usize = 128;
/// The number of bytes of a date and a time without seconds: `2026-01-01 06:00`.
const SHORT_TIME_BYTES: usize = 16;
/// The maximum number of hours that a zone omits: a zone that crosses the date line omits a day.
const MAX_OMITTED_HOURS: i64 = 26;

/// A time that a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParsedTime {
    /// The text has a zone; the time is in UTC.
    Instant(NaiveDateTime),
    /// The text has no zone.
    Local(NaiveDateTime),
}

/// Returns the time zone with this IANA name or offset.
pub(super) fn zone_from_name(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        let shown: String = name.chars().take(64).collect();
        DataFusionError::Plan(format!(
            "invalid time zone {shown:?}; use an IANA name such as Europe/Berlin, or an offset such as +01:00"
        ))
    })
}

/// Returns the instant of a local time, in UTC; `None` if it is out of range. A local time that a zone has twice is the
/// later instant; one that it omits is read with the offset that was in force before.
pub(super) fn utc_from_local(local: NaiveDateTime, zone: &Tz) -> Option<NaiveDateTime> {
    let offset = offset_of_local(local, zone).or_else(|| {
        (1..=MAX_OMITTED_HOURS).find_map(|hours| {
            let before = local.checked_sub_signed(TimeDelta::hours(hours))?;
            offset_of_local(before, zone)
        })
    })?;
    local.checked_sub_offset(offset)
}

fn offset_of_local(local: NaiveDateTime, zone: &Tz) -> Option<FixedOffset> {
    match zone.offset_from_local_datetime(&local) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(_, offset) => {
            Some(offset.fix())
        }
        MappedLocalTime::None => None,
    }
}

/// Returns the local time of an instant; `None` if it is out of range.
pub(super) fn local_from_utc(utc: NaiveDateTime, zone: &Tz) -> Option<NaiveDateTime> {
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix())
}

/// Parses a date or a time, with or without seconds and zone.
pub(super) fn parse_time(text: &str) -> Result<ParsedTime, ArrowError> {
    let text = text.trim();
    if text.len() > MAX_TEXT_BYTES {
        return Err(ArrowError::ParseError(format!(
            "Error parsing timestamp from a text of {} bytes",
            text.len()
        )));
    }
    let completed = with_seconds(text);
    let text = completed.as_deref().unwrap_or(text);
    parse_complete(text).or_else(|error| parse_in_named_zone(text).ok_or(error))
}

fn parse_complete(text: &str) -> Result<ParsedTime, ArrowError> {
    let in_utc = string_to_datetime(&Utc, text)?.naive_utc();
    // A text with a zone means the same wherever it is read.
    let is_instant = FixedOffset::east_opt(3_600)
        .map(|elsewhere| string_to_datetime(&elsewhere, text))
        .transpose()?
        .is_some_and(|elsewhere| elsewhere.naive_utc() == in_utc);
    Ok(match is_instant {
        true => ParsedTime::Instant(in_utc),
        false => ParsedTime::Local(in_utc),
    })
}

/// Parses a local time, followed by a zone that has it twice or not at all.
fn parse_in_named_zone(text: &str) -> Option<ParsedTime> {
    let (time, zone) = text.rsplit_once(' ')?;
    let zone: Tz = zone.parse().ok()?;
    match parse_complete(time).ok()? {
        ParsedTime::Local(local) => utc_from_local(local, &zone).map(ParsedTime::Instant),
        ParsedTime::Instant(_) => None,
    }
}

/// Returns a text such as `2026-01-01 06:00`, `2026-01-01T06:00Z` or `2026-01-01 06:00+02:00` with seconds, or `None` for any
/// other text. People type them, and Arrow's parser requires seconds.
fn with_seconds(text: &str) -> Option<String> {
    let (time, zone) = text.split_at_checked(SHORT_TIME_BYTES)?;
    let is_time = time
        .bytes()
        .zip("dddd-dd-ddTdd:dd".bytes())
        .all(|(found, expected)| match expected {
            b'd' => found.is_ascii_digit(),
            b'T' => found == b'T' || found == b' ',
            other => found == other,
        });
    let is_zone = zone.is_empty() || zone.starts_with(['Z', 'z', '+', '-', ' ']);
    (is_time && is_zone).then(|| format!("{time}:00{zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn time_without_seconds_gets_them_and_other_texts_stay() {
        for (text, expected) in [
            ("2026-01-01 06:00", "2026-01-01 06:00:00"),
            ("2026-01-01T06:00", "2026-01-01T06:00:00"),
            ("2026-01-01T06:00Z", "2026-01-01T06:00:00Z"),
            ("2026-01-01 06:00+02:00", "2026-01-01 06:00:00+02:00"),
            (
                "2026-01-01 06:00 Europe/Berlin",
                "2026-01-01 06:00:00 Europe/Berlin",
            ),
        ] {
            assert_eq!(with_seconds(text).as_deref(), Some(expected));
        }
        for text in [
            "",
            "2026-01-01",
            "2026-01-01 06",
            "2026-01-01 06:00:00",
            "2026-01-01 06:001",
            "2026/01/01 06:00",
            "2026-01-01 6:00 am",
            "2026-01-01_06:00",
            "äääääääää 06:00",
        ] {
            assert_eq!(with_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn local_times_that_a_zone_has_twice_or_omits_are_those_of_postgres() {
        // Postgres 16: SET TIME ZONE …; SELECT TIMESTAMPTZ '…' AT TIME ZONE 'UTC'.
        for (zone, local, expected) in [
            (
                "Europe/Berlin",
                "2024-10-27T01:59:59",
                "2024-10-26T23:59:59",
            ),
            (
                "Europe/Berlin",
                "2024-10-27T02:30:00",
                "2024-10-27T01:30:00",
            ),
            (
                "Europe/Berlin",
                "2024-03-31T02:30:00",
                "2024-03-31T01:30:00",
            ),
            (
                "America/Sao_Paulo",
                "2018-11-04T00:30:00",
                "2018-11-04T03:30:00",
            ),
            ("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T22:00:00"),
            ("+05:30", "2024-03-31T02:30:00", "2024-03-30T21:00:00"),
        ] {
            let zone: Tz = zone.parse().unwrap();
            assert_eq!(
                utc_from_local(time(local), &zone),
                Some(time(expected)),
                "{local}"
            );
        }
    }

    #[test]
    fn text_with_a_zone_is_an_instant_and_without_one_a_local_time() {
        for (text, expected) in [
            ("2024-10-27", ParsedTime::Local(time("2024-10-27T00:00:00"))),
            (
                "2024-10-27 06:00",
                ParsedTime::Local(time("2024-10-27T06:00:00")),
            ),
            (
                "2024-10-27T06:00:00Z",
                ParsedTime::Instant(time("2024-10-27T06:00:00")),
            ),
            (
                "2024-10-27 06:00+02:00",
                ParsedTime::Instant(time("2024-10-27T04:00:00")),
            ),
            (
                " 2024-10-27 06:00 Asia/Kolkata ",
                ParsedTime::Instant(time("2024-10-27T00:30:00")),
            ),
            (
                "2024-10-27 02:30 Europe/Berlin",
                ParsedTime::Instant(time("2024-10-27T01:30:00")),
            ),
            ("9999-12-31", ParsedTime::Local(time("9999-12-31T00:00:00"))),
        ] {
            assert_eq!(parse_time(text).unwrap(), expected, "{text}");
        }
        for text in ["", "yesterday", "2024-10-27 25:00", &"2".repeat(500)] {
            let error = parse_time(text).unwrap_err().to_string();
            assert!(error.contains("Error parsing timestamp"), "{error}");
        }
    }
}
