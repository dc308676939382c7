//! A line of the journal: a checksum, and an entry as JSON. A line whose checksum does not match was not written completely,
//! or was damaged later.
//!
//! A record is a list of its values, in the order of [`UsageRecord`]. Older journals have the values with their names, which
//! makes a line twice as long; they can be read too. New values are added at the end and have a default.

use std::io::Write;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use uuid::Uuid;

use crate::model::{OrganisationId, SessionId, UsageRecord, UserId, micros};

/// The length of the checksum in hexadecimal digits, and of the space after it.
const PREFIX_BYTES: usize = 17;
/// The initial capacity for a line, in bytes; most lines fit.
const LINE_CAPACITY: usize = 1 << 10;

/// An event of a request, with its record or a reference to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::metering) enum Entry<R = UsageRecord> {
    /// The request is in progress. The record applies if its end never follows. For a long response it is written
    /// repeatedly, with the amounts sent so far; the last one counts.
    Begun(R),
    /// The request has ended.
    Ended(R),
}

impl Entry<&UsageRecord> {
    /// Returns the line with its line break.
    pub fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let values = match self {
            Self::Begun(record) => Entry::Begun(Values::from_record(record)),
            Self::Ended(record) => Entry::Ended(Values::from_record(record)),
        };
        let mut line = Vec::with_capacity(LINE_CAPACITY);
        line.resize(PREFIX_BYTES, b' ');
        serde_json::to_writer(&mut line, &values)?;
        let (before, json) = line.split_at_mut(PREFIX_BYTES);
        write!(&mut *before, "{:016x}", checksum(json)).map_err(serde_json::Error::io)?;
        line.push(b'\n');
        Ok(line)
    }
}

impl Entry {
    /// Parses a line without its line break; returns `None` if it is incomplete or damaged.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (before, json) = line.split_at_checked(PREFIX_BYTES)?;
        let before = std::str::from_utf8(before.strip_suffix(b" ")?).ok()?;
        let found = u64::from_str_radix(before, 16).ok()?;
        (found == checksum(json)).then(|| serde_json::from_slice(json).ok())?
    }
}

/// The values of a record, without names.
#[derive(Serialize)]
struct Values<'a>(
    Uuid,
    OrganisationId,
    UserId,
    Option<&'a str>,
    Option<SessionId>,
    Uuid,
    &'a str,
    Option<&'a str>,
    Option<&'a str>,
    #[serde(serialize_with = "micros::serialize")] DateTime<Utc>,
    #[serde(serialize_with = "micros::serialize")] DateTime<Utc>,
    Option<u64>,
    u64,
    u64,
    u64,
    u64,
    &'a str,
    bool,
    &'a str,
    &'a str,
    bool,
);

impl<'a> Values<'a> {
    fn from_record(record: &'a UsageRecord) -> Self {
        // The tests below find a missing value.
        Self(
            record.request_id,
            record.organisation_id,
            record.user_id,
            record.api_key_id.as_deref(),
            record.session_id,
            record.server_id,
            &record.endpoint,
            record.sql_fingerprint.as_deref(),
            record.sql_text.as_deref(),
            record.started_at,
            record.ended_at,
            record.first_byte_microseconds,
            record.duration_microseconds,
            record.rows,
            record.bytes_sent,
            record.bytes_scanned,
            &record.status,
            record.cancelled,
            &record.client_address,
            &record.client_agent,
            record.billable,
        )
    }
}

fn checksum(json: &[u8]) -> u64 {
    XxHash64::oneshot(0, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metering::journal::tests::record;
    use crate::model::ABORTED;

    #[test]
    fn parse_returns_entry_or_none_if_damaged() {
        let entry = Entry::Begun(record(7));
        let line = Entry::Begun(&record(7)).to_line().unwrap();
        let (end, whole) = line.split_last().unwrap();
        assert_eq!((*end, Entry::parse(whole).as_ref()), (b'\n', Some(&entry)));
        assert!(!whole.contains(&b'\n'));
        for at in 0..whole.len() {
            assert_eq!(Entry::parse(&whole[..at]), None);
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1;
            assert_eq!(Entry::parse(&damaged), None, "byte {at}");
        }
    }

    #[test]
    fn values_survive_round_trip() {
        // All values differ, so that a swap is found.
        let session = SessionId(Uuid::from_u128(4));
        let all = UsageRecord {
            session_id: Some(session),
            sql_fingerprint: Some("a print".into()),
            ended_at: record(9).ended_at,
            first_byte_microseconds: Some(1),
            duration_microseconds: 2,
            rows: 3,
            bytes_sent: 4,
            bytes_scanned: 5,
            status: ABORTED.into(),
            cancelled: true,
            billable: false,
            ..record(7)
        };
        for record in [all, record(8)] {
            let line = Entry::Ended(&record).to_line().unwrap();
            let read = Entry::parse(&line[..line.len() - 1]);
            assert_eq!(read, Some(Entry::Ended(record)));
        }
    }

    #[test]
    fn parse_accepts_named_values_of_older_journals() {
        let json = serde_json::to_vec(&Entry::Ended(record(7))).unwrap();
        let line = [format!("{:016x} ", checksum(&json)).as_bytes(), &json].concat();
        assert!(json.starts_with(br#"{"ended":{"request_id":"#));
        assert_eq!(Entry::parse(&line), Some(Entry::Ended(record(7))));
    }
}
