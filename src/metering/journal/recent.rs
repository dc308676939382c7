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
    record: Box<UsageRecord>,
    /// Bytes of its line, and where that ends.
    bytes: u64,
    end: Place,
}

/// What the ledger takes next.
#[derive(Debug)]
pub(in crate::metering) enum Next {
    /// These, after which it has all up to there.
    Kept(Vec<UsageRecord>, Place),
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
    pub fn keep(&mut self, record: Box<UsageRecord>, bytes: u64, end: Place) {
        self.bytes += bytes;
        if self.bytes > MOST {
            // The ledger does not keep up, and reads the files when it can.
            *self = Self {
                from: end,
                ..Self::new()
            };
            return;
        }
        self.kept.push_back(Kept { record, bytes, end });
    }

    /// Lets go of records of about `most` bytes to the ledger, which has all up to `at`; the journal goes to `end`. If it
    /// fails to add them, they are still in the files.
    pub fn next(&mut self, at: Place, end: Place, most: u64) -> Next {
        if at < self.from {
            return Next::InFiles(self.from);
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        while bytes < most
            && let Some(kept) = self.kept.pop_front()
        {
            bytes += kept.bytes;
            self.from = kept.end;
            records.push(*kept.record);
        }
        self.bytes -= bytes;
        if self.kept.is_empty() {
            // After the last of them requests have begun at most.
            self.from = end;
            self.kept.shrink_to(SMALL);
        }
        Next::Kept(records, self.from)
    }
}

/// Places for records that stay reserved when there are none.
const SMALL: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::super::tests::{journal, record};
    use super::*;

    /// Ids of what the ledger is given, from the memory or from the files, and whether it was from there.
    fn take(reader: &mut Reader, next: Next) -> (Vec<u8>, bool) {
        let (records, upto, from_files) = match next {
            Next::Kept(records, upto) => (records, upto, false),
            Next::InFiles(end) => {
                let (part, upto) = reader.next(end, u64::MAX).unwrap();
                assert_eq!((part.damaged, upto), (0, end));
                (part.ended().collect(), upto, true)
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
            journal.ended(record(seed).into()).unwrap();
        }
        let next = journal.next(reader.at(), 1);
        assert_eq!(take(&mut reader, next), (vec![0], false));
        // The ledger fails to add this.
        drop(journal.next(reader.at(), 1));
        journal.ended(record(3).into()).unwrap();
        let next = journal.next(reader.at(), u64::MAX);
        assert_eq!(take(&mut reader, next), (vec![1], true));
        journal.begun(&record(4)).unwrap();
        let next = journal.next(reader.at(), u64::MAX);
        assert_eq!(take(&mut reader, next), (vec![2, 3], false));
        assert_eq!(
            reader.at(),
            journal.end(),
            "what has begun is no more to take"
        );
        // And on from there.
        journal.ended(record(4).into()).unwrap();
        let next = journal.next(reader.at(), u64::MAX);
        assert_eq!(take(&mut reader, next), (vec![4], false));
    }

    #[test]
    fn memory_is_limited_and_nothing_is_left_out_when_it_was_too_little() {
        let (_folder, journal) = journal(1 << 30);
        let mut reader = Reader::new(journal.folder());
        let long = |seed| {
            let sql_text = Some("x".repeat(MOST as usize / 4));
            Box::new(UsageRecord {
                sql_text,
                ..record(seed)
            })
        };
        for seed in 0..10 {
            journal.ended(long(seed)).unwrap();
        }
        let (mut taken, mut times_from_files) = (Vec::new(), 0);
        while reader.at() < journal.end() {
            let next = journal.next(reader.at(), MOST / 4);
            let (ids, from_files) = take(&mut reader, next);
            assert!(from_files || ids.len() <= 1, "{ids:?}");
            taken.extend(ids);
            times_from_files += usize::from(from_files);
        }
        assert_eq!(taken, (0..10).collect::<Vec<u8>>());
        assert_eq!(times_from_files, 1);
    }
}
