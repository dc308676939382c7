//! What is known of a request once it has ended, and the months that requests are billed in.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use ecow::EcoString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{OrganisationId, SessionId, UserId};

/// A request that has ended, as the ledger has it: the names are its columns. Thousands are held until they are there, so
/// texts that they have in common are shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Names the request; the client was told.
    pub request_id: Uuid,
    /// Who pays.
    #[serde(rename = "organization_id")]
    pub organisation_id: OrganisationId,
    /// Who asked.
    pub user_id: UserId,
    /// The key that the user asked with, if it was one.
    pub api_key_id: Option<EcoString>,
    /// The session that the user asked in, if it was not a key.
    pub session_id: Option<SessionId>,
    /// The run of a server that answered.
    pub server_id: Uuid,
    /// The RPC and the command in it, such as `DoGet/StatementQuery`.
    pub endpoint: EcoString,
    /// SHA-256 of the statement without its literals, in hexadecimal.
    pub sql_fingerprint: Option<EcoString>,
    /// The statement, where it is to be kept.
    pub sql_text: Option<String>,
    /// When the request came.
    #[serde(with = "micros")]
    pub started_at: DateTime<Utc>,
    /// When its answer was whole, or broke off.
    #[serde(with = "micros")]
    pub ended_at: DateTime<Utc>,
    /// From the start to the first message of the answer.
    pub first_byte_microseconds: Option<u64>,
    /// From the start to the end.
    pub duration_microseconds: u64,
    /// Rows that were sent, or taken in by an ingest.
    pub rows: u64,
    /// Messages of the answer, as they were encoded.
    pub bytes_sent: u64,
    /// Of the lake's files.
    pub bytes_scanned: u64,
    /// As gRPC names it: `OK`, `INVALID_ARGUMENT`, …
    pub status: EcoString,
    /// Whether the client went away or cancelled before the answer was whole.
    pub cancelled: bool,
    /// Where the client is.
    pub client_address: EcoString,
    /// What the client calls itself.
    pub client_agent: EcoString,
    /// Whether it is paid for.
    pub billable: bool,
}

/// The status of a request whose server died before the answer was whole.
pub const ABORTED: &str = "ABORTED";

/// Instants as the databases have them: microseconds, in UTC.
pub(crate) mod micros {
    use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// As RFC 3339, such as `2026-11-29T18:36:39.000001Z`. There are four to each request that is recorded: in
    /// chrono's way, which knows all formats, they were a thirtieth of what metering costs.
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

/// What an organisation may use; none for as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageLimits {
    /// Requests in a second, in the long run; more than zero.
    pub requests_per_second: Option<f64>,
    /// Queries that run at once, at least one.
    pub concurrent_queries: Option<u64>,
    /// Billable requests in a UTC month.
    pub monthly_requests: Option<u64>,
    /// Bytes that they are answered with in a UTC month.
    pub monthly_bytes_sent: Option<u64>,
    /// Bytes of the lake's files that they read in a UTC month.
    pub monthly_bytes_scanned: Option<u64>,
}

/// A month in UTC, as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month {
    year: i32,
    /// From 1.
    month: u32,
}

/// A text is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no month; write it as 2026-11")]
pub struct MalformedMonth(String);

impl Month {
    /// The first that can be written.
    pub const FIRST: Self = Self { year: 0, month: 1 };
    /// The last that can be written.
    pub const LAST: Self = Self {
        year: 9999,
        month: 12,
    };

    /// The month of an instant.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self {
            year: at.year(),
            month: at.month(),
        }
    }

    /// The month after it.
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

    /// Its last instant, to the microsecond.
    pub fn end(self) -> DateTime<Utc> {
        self.next().start() - TimeDelta::microseconds(1)
    }

    /// The instant at which it begins.
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
    fn an_instant_is_written_as_chrono_writes_it() {
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
    fn a_month_is_written_one_way_and_ends_where_the_next_begins() {
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
            (Month::of(last), Month::of(november.start())),
            (november, november)
        );
    }
}
