//! A line of the journal: a checksum, and what it is over as JSON. A line that does not match its checksum was not
//! written to its end, or was damaged since.
//!
//! A record is the list of its values, in the order of [`UsageRecord`]: with their names, which older journals have and
//! which are understood, too, a line would be twice as long. What a later version adds comes last, and has a default.

use std::io::Write;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use uuid::Uuid;

use crate::model::{OrganisationId, SessionId, UsageRecord, UserId, micros};

/// Hexadecimal digits of the checksum, and the space after them.
const BEFORE_JSON: usize = 17;
/// Bytes of most lines, or a little more.
const MOSTLY: usize = 1 << 10;

/// What happened to a request, and its record or a reference to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::metering) enum Entry<R = UsageRecord> {
    /// It is being answered. What the record says is what is to be said of it if its end never comes; of a long answer it is
    /// said again and again, with what was sent until then, and the last counts.
    Begun(R),
    /// It has ended.
    Ended(R),
}

impl Entry<&UsageRecord> {
    /// The line, with its end.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let values = match self {
            Self::Begun(record) => Entry::Begun(Values::of(record)),
            Self::Ended(record) => Entry::Ended(Values::of(record)),
        };
        let mut line = Vec::with_capacity(MOSTLY);
        line.resize(BEFORE_JSON, b' ');
        serde_json::to_writer(&mut line, &values)?;
        let (before, json) = line.split_at_mut(BEFORE_JSON);
        write!(&mut *before, "{:016x}", sum(json)).map_err(serde_json::Error::io)?;
        line.push(b'\n');
        Ok(line)
    }
}

impl Entry {
    /// What a line says, if it is whole; without its end.
    pub fn read(line: &[u8]) -> Option<Self> {
        let (before, json) = line.split_at_checked(BEFORE_JSON)?;
        let before = std::str::from_utf8(before.strip_suffix(b" ")?).ok()?;
        let found = u64::from_str_radix(before, 16).ok()?;
        (found == sum(json)).then(|| serde_json::from_slice(json).ok())?
    }
}

/// What a record says, without names.
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
    fn of(record: &'a UsageRecord) -> Self {
        // One that is missing is missed by the tests below.
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

fn sum(json: &[u8]) -> u64 {
    XxHash64::oneshot(0, json)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use crate::model::ABORTED;

    #[test]
    fn a_line_is_read_as_it_was_written_and_never_otherwise() {
        let entry = Entry::Begun(record(7));
        let line = Entry::Begun(&record(7)).line().unwrap();
        let (end, whole) = line.split_last().unwrap();
        assert_eq!((*end, Entry::read(whole).as_ref()), (b'\n', Some(&entry)));
        assert!(!whole.contains(&b'\n'));
        for at in 0..whole.len() {
            assert_eq!(Entry::read(&whole[..at]), None);
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1;
            assert_eq!(Entry::read(&damaged), None, "byte {at}");
        }
    }

    #[test]
    fn each_value_comes_back_as_itself() {
        // No two are alike, so that none can be taken for another.
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
            let line = Entry::Ended(&record).line().unwrap();
            let read = Entry::read(&line[..line.len() - 1]);
            assert_eq!(read, Some(Entry::Ended(record)));
        }
    }

    #[test]
    fn lines_of_older_journals_with_names_are_understood() {
        let json = serde_json::to_vec(&Entry::Ended(record(7))).unwrap();
        let line = [format!("{:016x} ", sum(&json)).as_bytes(), &json].concat();
        assert!(json.starts_with(br#"{"ended":{"request_id":"#));
        assert_eq!(Entry::read(&line), Some(Entry::Ended(record(7))));
    }
}
