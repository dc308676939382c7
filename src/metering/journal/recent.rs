//! The requests that ended last, in memory: the ledger takes them from here as a rule, and need not read and understand
//! again what was just written. What is left out of here is in the files.

use std::collections::VecDeque;

use super::Place;
use crate::model::UsageRecord;

/// Bytes of lines whose records are kept at most: some seconds of a busy server.
const MOST: u64 = 4 << 20;

/// Records of the requests that ended after a place in the journal.
#[derive(Debug)]
pub(super) struct Recent {
    /// All that ended after this are here.
    from: Place,
    kept: VecDeque<Kept>,
    /// Of all their lines.
    bytes: u64,
}

#[derive(Debug)]
struct Kept {
    record: UsageRecord,
    /// Bytes of its line, and where that ends.
    bytes: u64,
    end: Place,
}

/// What the ledger takes next.
#[derive(Debug)]
pub(in crate::metering) enum Next {
    /// What it was handed over, after which it has all up to there.
    Kept(Place),
    /// What the files say up to there.
    InFiles(Place),
}

impl Recent {
    /// From the beginning of a journal.
    pub fn new() -> Self {
        Self {
            from: Place::START,
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Keeps a record whose line has so many bytes and ends there.
    pub fn keep(&mut self, mut record: UsageRecord, bytes: u64, end: Place) {
        self.bytes += bytes;
        if self.bytes > MOST {
            // The ledger does not keep up, and reads the files when it can.
            *self = Self {
                from: end,
                ..Self::new()
            };
            return;
        }
        // Most come from the same few programs.
        if let Some(last) = self.kept.back()
            && last.record.client_agent == record.client_agent
        {
            record.client_agent = last.record.client_agent.clone();
        }
        self.kept.push_back(Kept { record, bytes, end });
    }

    /// Hands over records of about `most` bytes to the ledger, which has all up to `at`; the journal goes to `end`. If it
    /// fails to add them, they are still in the files.
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
            // After the last of them requests have begun at most.
            self.from = end;
            self.kept.shrink_to(PLACES);
        }
        Next::Kept(self.from)
    }
}

/// Places for records that stay reserved when there are none: of a second or two of a busy server. To get pages from the
/// system for them every second takes longer than to write the records.
pub(in crate::metering) const PLACES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::super::reader::Reader;
    use super::super::tests::{journal, record};
    use super::*;

    /// Ids of what the ledger is given, about `most` bytes, and whether it was from the files.
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
    fn what_ended_is_taken_once_and_what_the_ledger_failed_to_add_again_from_the_files() {
        let (_folder, journal) = journal(1 << 30);
        let mut reader = Reader::new(journal.folder());
        journal.begun(&record(0)).unwrap();
        for seed in 0..3 {
            journal.ended(record(seed)).unwrap();
        }
        assert_eq!(take(&journal, &mut reader, 1), (vec![0], false));
        // The ledger fails to add this.
        journal.next(reader.at(), 1, &mut Vec::new());
        journal.ended(record(3)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![1], true));
        journal.begun(&record(4)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![2, 3], false));
        assert_eq!(
            reader.at(),
            journal.end(),
            "what has begun is no more to take"
        );
        // And on from there.
        journal.ended(record(4)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![4], false));
    }

    #[test]
    fn memory_is_limited_and_nothing_is_left_out_when_it_was_too_little() {
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
