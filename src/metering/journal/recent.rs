//! The requests that ended last, in memory. The ledger usually reads them from here, so that it need not parse again what
//! was just written. Everything that is not here is in the files.

use std::collections::VecDeque;

use super::Place;
use crate::model::UsageRecord;

/// The maximum size of the lines whose records are kept, in bytes: some seconds of a busy server.
const MOST: u64 = 4 << 20;

/// Records of the requests that ended after a position in the journal.
#[derive(Debug)]
pub(super) struct Recent {
    /// All requests that ended after this position are here.
    from: Place,
    kept: VecDeque<Kept>,
    /// The size of all their lines, in bytes.
    bytes: u64,
}

#[derive(Debug)]
struct Kept {
    record: UsageRecord,
    /// The size of its line in bytes; `end` is the position after it.
    bytes: u64,
    end: Place,
}

/// The source of the next records for the ledger.
#[derive(Debug)]
pub(in crate::metering) enum Next {
    /// The records were returned; they are complete up to this position.
    Kept(Place),
    /// The files, up to this position.
    InFiles(Place),
}

impl Recent {
    /// Creates an empty queue at the beginning of a journal.
    pub fn new() -> Self {
        Self {
            from: Place::START,
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds a record whose line has `bytes` bytes and ends at `end`.
    pub fn keep(&mut self, mut record: UsageRecord, bytes: u64, end: Place) {
        self.bytes += bytes;
        if self.bytes > MOST {
            // The ledger is too slow. It reads the files later.
            *self = Self {
                from: end,
                ..Self::new()
            };
            return;
        }
        // Most records come from the same few programs, so that the text is shared.
        if let Some(last) = self.kept.back()
            && last.record.client_agent == record.client_agent
        {
            record.client_agent = last.record.client_agent.clone();
        }
        self.kept.push_back(Kept { record, bytes, end });
    }

    /// Returns records of about `max_bytes` bytes to the ledger, which has everything up to `at`; the journal ends at `end`.
    /// If the ledger fails to add them, they are still in the files.
    pub fn next(
        &mut self,
        at: Place,
        end: Place,
        most: u64,
        records: &mut Vec<UsageRecord>,
    ) -> Next {
        if at < self.from {
            return Next::InFiles(self.from);
        }
        let mut bytes = 0;
        while bytes < most
            && let Some(kept) = self.kept.pop_front()
        {
            bytes += kept.bytes;
            self.from = kept.end;
            records.push(kept.record);
        }
        self.bytes -= bytes;
        if self.kept.is_empty() {
            // After the last of them, only starts of requests can follow.
            self.from = end;
            self.kept.shrink_to(PLACES);
        }
        Next::Kept(self.from)
    }
}

/// The number of records that the buffers keep capacity for: one or two seconds of a busy server. Allocating their pages
/// every second takes longer than writing the records.
pub(in crate::metering) const PLACES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::super::reader::Reader;
    use super::super::tests::{journal, record};
    use super::*;

    /// Returns the ids of the next records for the ledger, about `most` bytes, and whether they are from the files.
    fn take(journal: &Journal, reader: &mut Reader, most: u64) -> (Vec<u8>, bool) {
        let mut records = Vec::new();
        let (upto, from_files) = match journal.next(reader.at(), most, &mut records) {
            Next::Kept(upto) => (upto, false),
            Next::InFiles(end) => {
                let (part, upto) = reader.next(end, u64::MAX).unwrap();
                assert_eq!((part.damaged, upto), (0, end));
                records.extend(part.ended());
                (upto, true)
            }
        };
        reader.move_to(upto);
        let ids = records.iter().map(|record| record.request_id.as_bytes()[0]);
        (ids.collect(), from_files)
    }

    #[test]
    fn next_returns_ended_once_and_failed_ones_from_files() {
        let (_folder, journal) = journal(1 << 30);
        let mut reader = Reader::new(journal.folder());
        journal.begun(&record(0)).unwrap();
        for seed in 0..3 {
            journal.ended(record(seed)).unwrap();
        }
        assert_eq!(take(&journal, &mut reader, 1), (vec![0], false));
        // The ledger fails to add this record.
        journal.next(reader.at(), 1, &mut Vec::new());
        journal.ended(record(3)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![1], true));
        journal.begun(&record(4)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![2, 3], false));
        assert_eq!(
            reader.at(),
            journal.end(),
            "requests in progress have no record to return"
        );
        // The next call continues from there.
        journal.ended(record(4)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![4], false));
    }

    #[test]
    fn recent_is_bounded_and_overflow_is_read_from_files() {
        let (_folder, journal) = journal(1 << 30);
        let mut reader = Reader::new(journal.folder());
        let long = |seed| {
            let sql_text = Some("x".repeat(MOST as usize / 4));
            UsageRecord {
                sql_text,
                ..record(seed)
            }
        };
        for seed in 0..10 {
            journal.ended(long(seed)).unwrap();
        }
        let (mut taken, mut times_from_files) = (Vec::new(), 0);
        while reader.at() < journal.end() {
            let (ids, from_files) = take(&journal, &mut reader, MOST / 4);
            assert!(from_files || ids.len() <= 1, "{ids:?}");
            taken.extend(ids);
            times_from_files += usize::from(from_files);
        }
        assert_eq!(taken, (0..10).collect::<Vec<u8>>());
        assert_eq!(times_from_files, 1);
    }
}
