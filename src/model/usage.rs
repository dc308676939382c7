//! The usage record of a request, and billing months.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use ecow::EcoString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::identity::{OrganisationId, SessionId, UserId};

/// A completed request as stored in the ledger: the field names are its columns. Thousands of records wait in memory
/// until they are written, so common texts are shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The id of the request. The client receives it.
    pub request_id: Uuid,
    /// The organisation that pays.
    #[serde(rename = "organization_id")]
    pub organisation_id: OrganisationId,
    /// The user who made the request.
    pub user_id: UserId,
    /// The API key, if the user authenticated with one.
    pub api_key_id: Option<EcoString>,
    /// The session, if the user did not authenticate with a key.
    pub session_id: Option<SessionId>,
    /// The id of the server run that processed the request.
    pub server_id: Uuid,
    /// The RPC and the command in it, such as `DoGet/StatementQuery`.
    pub endpoint: EcoString,
    /// The SHA-256 of the statement without its literals, in hexadecimal.
    pub sql_fingerprint: Option<EcoString>,
    /// The statement, if statements are stored.
    pub sql_text: Option<String>,
    /// The time at which the request arrived.
    #[serde(with = "micros")]
    pub started_at: DateTime<Utc>,
    /// The time at which the response was complete or was aborted.
    #[serde(with = "micros")]
    pub ended_at: DateTime<Utc>,
    /// The time from the start to the first message of the response.
    pub first_byte_microseconds: Option<u64>,
    /// The time from the start to the end.
    pub duration_microseconds: u64,
    /// The rows that were sent, or that an ingest received.
    pub rows: u64,
    /// The encoded size of the response's messages, in bytes.
    pub bytes_sent: u64,
    /// The bytes read from the lake's files.
    pub bytes_scanned: u64,
    /// The name of the gRPC status: `OK`, `INVALID_ARGUMENT`, …
    pub status: EcoString,
    /// Whether the client disconnected or cancelled before the response was complete.
    pub cancelled: bool,
    /// The address of the client.
    pub client_address: EcoString,
    /// The user agent of the client.
    pub client_agent: EcoString,
    /// Whether the request is billed.
    pub billable: bool,
}

/// The status of a request whose server died before the response was complete.
pub const ABORTED: &str = "ABORTED";

/// Instants in the databases' format: microseconds, in UTC.
pub(crate) mod micros {
    use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Formats an instant as RFC 3339, such as `2026-11-29T18:36:39.000001Z`. Each recorded request has four of them:
    /// chrono's general formatter took a thirtieth of the cost of metering.
    pub fn text(at: &DateTime<Utc>) -> String {
        let is_usual = (0..=9_999).contains(&at.year()) && at.nanosecond() < 1_000_000_000;
        if !is_usual {
            return at.to_rfc3339_opts(SecondsFormat::Micros, true);
        }
        let mut text = String::with_capacity(27);
        let parts = [
            (at.year().unsigned_abs(), 4, '-'),
            (at.month(), 2, '-'),
            (at.day(), 2, 'T'),
            (at.hour(), 2, ':'),
            (at.minute(), 2, ':'),
            (at.second(), 2, '.'),
            (at.nanosecond() / 1_000, 6, 'Z'),
        ];
        for (number, digits, after) in parts {
            for place in (0..digits).rev() {
                let digit = number / 10_u32.pow(place) % 10;
                text.push(char::from_digit(digit, 10).unwrap_or('0'));
            }
            text.push(after);
        }
        text
    }

    pub fn serialize<S: Serializer>(at: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(from)?;
        let at = DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
        Ok(at.to_utc())
    }
}

/// The usage limits of an organisation; `None` means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageLimits {
    /// The average number of requests per second; greater than zero.
    pub requests_per_second: Option<f64>,
    /// The number of queries that run concurrently; at least one.
    pub concurrent_queries: Option<u64>,
    /// The number of billable requests in a UTC month.
    pub monthly_requests: Option<u64>,
    /// The bytes sent in responses in a UTC month.
    pub monthly_bytes_sent: Option<u64>,
    /// The bytes read from the lake's files in a UTC month.
    pub monthly_bytes_scanned: Option<u64>,
}

/// A month in UTC, written as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month {
    year: i32,
    /// The number of the month, from 1.
    month: u32,
}

/// The error for a text that is not a month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid month {0:?}; use the form 2026-11")]
pub struct MalformedMonth(String);

impl Month {
    /// The first month that the format can express.
    pub const FIRST: Self = Self { year: 0, month: 1 };
    /// The last month that the format can express.
    pub const LAST: Self = Self {
        year: 9999,
        month: 12,
    };

    /// Returns the month that contains an instant.
    pub fn containing(at: DateTime<Utc>) -> Self {
        Self {
            year: at.year(),
            month: at.month(),
        }
    }

    /// Returns the following month.
    pub fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year + 1,
                month: 1,
            },
            month => Self {
                month: month + 1,
                ..self
            },
        }
    }

    /// Returns the last instant of the month, to the microsecond.
    pub fn end(self) -> DateTime<Utc> {
        self.next().start() - TimeDelta::microseconds(1)
    }

    /// Returns the first instant of the month.
    pub fn start(self) -> DateTime<Utc> {
        let first = chrono::NaiveDate::from_ymd_opt(self.year, self.month, 1);
        first
            .unwrap_or_default()
            .and_time(chrono::NaiveTime::MIN)
            .and_utc()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = MalformedMonth;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedMonth(text.to_owned());
        let digits =
            |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
        let (year, month) = text.split_once('-').ok_or_else(malformed)?;
        if !digits(year, 4) || !digits(month, 2) {
            return Err(malformed());
        }
        match (year.parse(), month.parse()) {
            (Ok(year), Ok(month @ 1..=12)) => Ok(Self { year, month }),
            _ => Err(malformed()),
        }
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micros_text_matches_chrono() {
        let usual = (0..1_000_u32).map(|number| {
            let second = i64::from(number) * 97_777_777 - 62_000_000_000;
            DateTime::from_timestamp(second, number.wrapping_mul(2_654_435_761) % 1_000_000_000)
        });
        let edges = ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"];
        let unusual = [
            "+10000-01-01T00:00:00Z",
            "-0001-12-31T23:59:59.5Z",
            "2016-12-31T23:59:60.25Z",
        ];
        let others = edges.into_iter().chain(unusual);
        let others = others.map(|text| text.parse::<DateTime<Utc>>().ok());
        for at in usual.chain(others).map(Option::unwrap) {
            let expected = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            assert_eq!(micros::text(&at), expected);
        }
    }

    #[test]
    fn month_parse_is_strict_and_end_precedes_next_start() {
        for wrong in [
            "2026",
            "2026-13",
            "2026-00",
            "2026-1",
            "26-01",
            "+026-01",
            "2026-01-01",
            " 2026-01",
        ] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
        let november: Month = "2026-11".parse().unwrap();
        assert_eq!(november.to_string(), "2026-11");
        assert_eq!(november.next().next().to_string(), "2027-01");
        let last = november.end();
        assert_eq!(last + TimeDelta::microseconds(1), november.next().start());
        assert_eq!(
            (Month::containing(last), Month::containing(november.start())),
            (november, november)
        );
    }
}
