//! A line of the journal: a checksum, and what it is over as JSON. A line that does not match its checksum was not
//! written to its end, or was damaged since.

use std::io::Write;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use crate::model::UsageRecord;

/// Hexadecimal digits of the checksum, and the space after them.
const BEFORE_JSON: usize = 17;
/// Bytes of most lines, or a little more.
const MOSTLY: usize = 1 << 10;

/// What happened to a request, and its record or a reference to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::metering) enum Entry<R = UsageRecord> {
    /// It is being answered. What the record says is what is to be said of it if its end never comes.
    Begun(R),
    /// It has ended.
    Ended(R),
}

impl<R: Serialize> Entry<R> {
    /// The line, with its end.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = Vec::with_capacity(MOSTLY);
        line.resize(BEFORE_JSON, b' ');
        serde_json::to_writer(&mut line, self)?;
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

fn sum(json: &[u8]) -> u64 {
    XxHash64::oneshot(0, json)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_never_otherwise() {
        let entry = Entry::Begun(record(7));
        let line = entry.line().unwrap();
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
}
