//! The requests that ended last, in memory. The ledger usually reads them from here, so that it need not parse again what
//! was just written. Everything that is not here is in the files.

use std::collections::VecDeque;

use super::position::JournalPosition;
use crate::model::UsageRecord;

/// The maximum size of the lines whose records are kept, in bytes: some seconds of a busy server.
const MAX_BYTES: u64 = 4 << 20;

/// Records of the requests that ended after a position in the journal.
#[derive(Debug)]
pub(super) struct RecentRecords {
    /// All requests that ended after this position are here.
    from: JournalPosition,
    records: VecDeque<RecentRecord>,
    /// The size of all their lines, in bytes.
    bytes: u64,
}

#[derive(Debug)]
struct RecentRecord {
    record: UsageRecord,
    /// The size of its line in bytes; `end` is the position after it.
    bytes: u64,
    end: JournalPosition,
}

/// The source of the next records for the ledger.
#[derive(Debug)]
pub(in crate::metering) enum NextRecords {
    /// The records were returned; they are complete up to this position.
    InMemory(JournalPosition),
    /// The files, up to this position.
    InFiles(JournalPosition),
}

impl RecentRecords {
    /// Creates an empty queue at the beginning of a journal.
    pub fn new() -> Self {
        Self {
            from: JournalPosition::START,
            records: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds a record whose line has `bytes` bytes and ends at `end`.
    pub fn push(&mut self, mut record: UsageRecord, bytes: u64, end: JournalPosition) {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            // The ledger is too slow. It reads the files later.
            *self = Self {
                from: end,
                ..Self::new()
            };
            return;
        }
        // Most records come from the same few programs, so that the text is shared.
        if let Some(last) = self.records.back()
            && last.record.client_agent == record.client_agent
        {
            record.client_agent = last.record.client_agent.clone();
        }
        self.records.push_back(RecentRecord { record, bytes, end });
    }

    /// Returns records of about `max_bytes` bytes to the ledger, which has everything up to `at`; the journal ends at `end`.
    /// If the ledger fails to add them, they are still in the files.
    pub fn next(
        &mut self,
        at: JournalPosition,
        end: JournalPosition,
        max_bytes: u64,
        records: &mut Vec<UsageRecord>,
    ) -> NextRecords {
        if at < self.from {
            return NextRecords::InFiles(self.from);
        }
        let mut bytes = 0;
        while bytes < max_bytes
            && let Some(kept) = self.records.pop_front()
        {
            bytes += kept.bytes;
            self.from = kept.end;
            records.push(kept.record);
        }
        self.bytes -= bytes;
        if self.records.is_empty() {
            // After the last of them, only starts of requests can follow.
            self.from = end;
            self.records.shrink_to(BUFFER_CAPACITY);
        }
        NextRecords::InMemory(self.from)
    }
}

/// The number of records that the buffers keep capacity for: one or two seconds of a busy server. Allocating their pages
/// every second takes longer than writing the records.
pub(in crate::metering) const BUFFER_CAPACITY: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metering::journal::live_journal::Journal;
    use crate::metering::journal::reader::JournalReader;
    use crate::metering::journal::tests::{journal, record};

    /// Returns the ids of the next records for the ledger, about `most` bytes, and whether they are from the files.
    fn take(journal: &Journal, reader: &mut JournalReader, most: u64) -> (Vec<u8>, bool) {
        let mut records = Vec::new();
        let (upto, from_files) = match journal.next(reader.position(), most, &mut records) {
            NextRecords::InMemory(upto) => (upto, false),
            NextRecords::InFiles(end) => {
                let (part, upto) = reader.next(end, u64::MAX).unwrap();
                assert_eq!((part.damaged, upto), (0, end));
                records.extend(part.into_ended());
                (upto, true)
            }
        };
        reader.set_position(upto);
        let ids = records.iter().map(|record| record.request_id.as_bytes()[0]);
        (ids.collect(), from_files)
    }

    #[test]
    fn next_returns_ended_once_and_failed_ones_from_files() {
        let (_folder, journal) = journal(1 << 30);
        let mut reader = JournalReader::new(journal.folder());
        journal.record_start(&record(0)).unwrap();
        for seed in 0..3 {
            journal.record_end(record(seed)).unwrap();
        }
        assert_eq!(take(&journal, &mut reader, 1), (vec![0], false));
        // The ledger fails to add this record.
        journal.next(reader.position(), 1, &mut Vec::new());
        journal.record_end(record(3)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![1], true));
        journal.record_start(&record(4)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![2, 3], false));
        assert_eq!(
            reader.position(),
            journal.end(),
            "requests in progress have no record to return"
        );
        // The next call continues from there.
        journal.record_end(record(4)).unwrap();
        assert_eq!(take(&journal, &mut reader, u64::MAX), (vec![4], false));
    }

    #[test]
    fn recent_is_bounded_and_overflow_is_read_from_files() {
        let (_folder, journal) = journal(1 << 30);
        let mut reader = JournalReader::new(journal.folder());
        let long = |seed| {
            let sql_text = Some("x".repeat(MAX_BYTES as usize / 4));
            UsageRecord {
                sql_text,
                ..record(seed)
            }
        };
        for seed in 0..10 {
            journal.record_end(long(seed)).unwrap();
        }
        let (mut taken, mut times_from_files) = (Vec::new(), 0);
        while reader.position() < journal.end() {
            let (ids, from_files) = take(&journal, &mut reader, MAX_BYTES / 4);
            assert!(from_files || ids.len() <= 1, "{ids:?}");
            taken.extend(ids);
            times_from_files += usize::from(from_files);
        }
        assert_eq!(taken, (0..10).collect::<Vec<u8>>());
        assert_eq!(times_from_files, 1);
    }
}
