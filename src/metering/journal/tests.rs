//! Tests of the journal.

use std::fs::{File, OpenOptions};
use std::io::Write;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::dead_journal::DeadJournal;
use super::entry::Entry;
use super::file_names::file_path;
use super::live_journal::Journal;
use crate::model::{OrganisationId, UsageRecord, UserId};

pub(super) fn record(seed: u8) -> UsageRecord {
    let at =
        DateTime::<Utc>::from_timestamp_micros(1_700_000_000_000_000 + i64::from(seed)).unwrap();
    UsageRecord {
        request_id: Uuid::from_bytes([seed; 16]),
        organisation_id: OrganisationId(Uuid::from_bytes([1; 16])),
        user_id: UserId(Uuid::from_bytes([2; 16])),
        api_key_id: Some("key".into()),
        session_id: None,
        server_id: Uuid::from_bytes([3; 16]),
        endpoint: "DoGet/StatementQuery".into(),
        sql_fingerprint: None,
        sql_text: Some("SELECT 'ü\n'".to_owned()),
        started_at: at,
        ended_at: at,
        first_byte_microseconds: None,
        duration_microseconds: 0,
        rows: 0,
        bytes_sent: 0,
        bytes_scanned: 0,
        status: "OK".into(),
        cancelled: false,
        client_address: "127.0.0.1".into(),
        client_agent: "tests".into(),
        billable: true,
    }
}

pub(super) fn journal(limit: u64) -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::create(folder.path(), Uuid::from_bytes([9; 16]), limit).unwrap();
    (folder, journal)
}

#[test]
fn dead_journal_returns_ended_and_aborted_requests() {
    let (folder, journal) = journal(1 << 20);
    for seed in 0..3 {
        journal.record_start(&record(seed)).unwrap();
    }
    journal.record_end(record(1)).unwrap();
    journal.record_end(record(7)).unwrap();
    assert!(
        DeadJournal::find(folder.path()).unwrap().is_empty(),
        "its server is alive"
    );
    // The last line is incomplete.
    let path = file_path(journal.folder(), 1);
    drop(journal);
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(&Entry::Ended(&record(2)).to_line().unwrap()[..50])
        .unwrap();
    let [dead] = DeadJournal::find(folder.path())
        .unwrap()
        .try_into()
        .unwrap();
    // The result does not depend on the number of bytes per read.
    let mut reading = dead.open_reader().unwrap();
    let (mut ended, mut damaged) = (Vec::new(), 0);
    while let Some(left) = reading.next(100).unwrap() {
        ended.extend(left.ended);
        damaged += left.damaged;
    }
    assert_eq!((ended, damaged), (vec![record(1), record(7)], 0));
    let found = reading.into_aborted();
    let aborted: Vec<_> = found.iter().map(|record| record.request_id).collect();
    assert_eq!(aborted, [record(0).request_id, record(2).request_id]);
    for ended in &found {
        assert_eq!(
            (ended.status.as_str(), ended.ended_at),
            ("ABORTED", record(7).ended_at)
        );
    }
    dead.remove().unwrap();
    assert!(DeadJournal::find(folder.path()).unwrap().is_empty());
}

#[test]
fn delete_before_deletes_files_and_keeps_open_requests() {
    let (folder, journal) = journal(1 << 30);
    let open = record(200);
    journal.record_start(&open).unwrap();
    let long = UsageRecord {
        sql_text: Some("x".repeat(1 << 20)),
        ..record(1)
    };
    for _ in 0..10 {
        journal.record_end(long.clone()).unwrap();
    }
    let end = journal.end();
    assert!(end.number >= 3, "{end:?}");
    let before = journal.size();
    journal.delete_before(end.number).unwrap();
    assert!(
        journal.size() < before - (4 << 20),
        "{} of {before}",
        journal.size()
    );
    assert!(!file_path(journal.folder(), 1).exists());
    drop(journal);
    let mut dead = DeadJournal::find(folder.path())
        .unwrap()
        .remove(0)
        .open_reader()
        .unwrap();
    while dead.next(1 << 20).unwrap().is_some() {}
    assert_eq!(dead.into_aborted()[0].request_id, open.request_id);
}

#[test]
fn journal_size_is_bounded_with_room_for_open_requests() {
    let (_folder, journal) = journal(20 << 10);
    let mut begun = 0;
    while journal.record_start(&record(begun)).is_ok() {
        begun += 1;
    }
    assert!((4..20).contains(&begun), "{begun}");
    for seed in 0..begun {
        journal.record_end(record(seed)).unwrap();
    }
    assert!(journal.size() <= 20 << 10);
    // Requests that ended need no reserved room.
    assert!(journal.check_room().is_ok());
    while journal.check_room().is_ok() {
        journal.record_end(record(0)).unwrap();
    }
    assert!(journal.size() <= 20 << 10);
}

#[test]
fn journal_size_is_bounded_with_long_statements() {
    let (_folder, journal) = journal(1 << 20);
    let long = |seed| UsageRecord {
        sql_text: Some("x".repeat(64 << 10)),
        ..record(seed)
    };
    let mut begun = 0;
    while journal.check_room().is_ok() && journal.record_start(&long(begun)).is_ok() {
        begun += 1;
    }
    assert!((4..10).contains(&begun), "{begun}");
    for seed in 0..begun {
        journal.record_end(long(seed)).unwrap();
    }
    // A request that was not recorded as in progress has no reserved room; its record loses the statement.
    for seed in 0..20 {
        if journal.check_room().is_ok() {
            journal.record_end(long(seed)).unwrap();
        }
    }
    assert!(journal.size() <= 1 << 20, "{}", journal.size());
}

#[test]
fn request_whose_end_is_not_written_ends_as_aborted_later() {
    let (folder, journal) = journal(1 << 20);
    journal.record_start(&record(1)).unwrap();
    let long = UsageRecord {
        sql_text: Some("x".repeat(200 << 10)),
        ..record(2)
    };
    journal.record_end(long).unwrap();
    // The next line begins a file, which cannot be created.
    let next = file_path(journal.folder(), 2);
    File::create(&next).unwrap();
    assert!(journal.record_end(record(1)).is_err());
    assert_eq!(journal.ended_count(), 1);
    std::fs::remove_file(&next).unwrap();
    journal.record_end(record(3)).unwrap();
    assert_eq!(journal.ended_count(), 3);
    assert_eq!(journal.reserved_bytes(), 0);
    drop(journal);
    let mut dead = DeadJournal::find(folder.path())
        .unwrap()
        .remove(0)
        .open_reader()
        .unwrap();
    let mut ended = Vec::new();
    while let Some(part) = dead.next(1 << 20).unwrap() {
        ended.extend(part.ended);
    }
    let ended: Vec<_> = ended
        .iter()
        .map(|record| (record.request_id.as_bytes()[0], record.status.as_str()))
        .collect();
    assert_eq!(ended, [(2, "OK"), (3, "OK"), (1, "ABORTED")]);
    assert!(dead.into_aborted().is_empty());
}
