//! Checks which dates a run computes, and the ledger after it.

use super::*;
use crate::jobs::resample::ledger::{ArchivedFile, ExpiredRawFile};
use crate::model::MICROS_PER_DAY;

fn file(etag: &str, first: Day, last: Day) -> KnownFile {
    let dates = DateSet::range(first, last);
    KnownFile {
        etag: etag.to_owned(),
        minutes: 1_440 * dates.len() as u64,
        due: dates.clone(),
        dates,
        ..KnownFile::default()
    }
}

fn listed(path: &str, etag: &str) -> RawFile {
    RawFile {
        path: path.to_owned(),
        etag: etag.to_owned(),
        size: 0,
        modified: 0,
        fault: None,
    }
}

fn scope() -> Scope {
    Scope {
        dates: None,
        plausible_end: 1_001 * MICROS_PER_DAY,
        unfinished: DateSet::default(),
        in_tables: DateSet::default(),
    }
}

fn run(before: &Ledger, listing: &[(&str, &str, Day, Day)], scope: &Scope) -> Plan {
    let files: Vec<_> = listing
        .iter()
        .map(|(path, etag, ..)| listed(path, etag))
        .collect();
    let changes = compare(before, &files, false);
    let surveyed = listing
        .iter()
        .filter(|(path, ..)| changes.fresh.iter().any(|fresh| fresh.path == *path))
        .map(|(path, etag, first, last)| ((*path).to_owned(), file(etag, *first, *last)))
        .collect();
    let surveyed = SurveyResults {
        files: surveyed,
        ..SurveyResults::default()
    };
    plan(before, &changes, surveyed, scope)
}

#[test]
fn compare_of_file_uploaded_again_reports_change() {
    let ledger = run(&Ledger::default(), &[("a", "1", 5, 6)], &scope()).ledger;
    let mut file = listed("a", "1");
    assert_eq!(
        compare(&ledger, std::slice::from_ref(&file), false).fresh,
        []
    );
    file.modified = 1;
    let changes = compare(&ledger, std::slice::from_ref(&file), false);
    assert_eq!((changes.fresh, changes.new), (vec![file], 0));
}

#[test]
fn plan_with_changed_files_computes_old_and_new_dates() {
    let first = run(
        &Ledger::default(),
        &[("a", "1", 1, 3), ("b", "1", 10, 10)],
        &scope(),
    );
    assert_eq!(first.dirty.ranges(), [(1, 3), (10, 10)]);
    let again = run(
        &first.ledger,
        &[("a", "1", 1, 3), ("b", "1", 10, 10)],
        &scope(),
    );
    assert!(again.dirty.is_empty());
    assert_eq!(again.ledger, first.ledger);
    let changed = run(&first.ledger, &[("a", "2", 5, 6)], &scope());
    assert_eq!(changed.dirty.ranges(), [(1, 3), (5, 6), (10, 10)]);
}

#[test]
fn dates_outside_scope_stay_due() {
    let narrow = Scope {
        dates: Some((2, 2)),
        ..scope()
    };
    let first = run(&Ledger::default(), &[("a", "1", 1, 3)], &narrow);
    assert_eq!(first.dirty.ranges(), [(2, 2)]);
    let removed = run(&first.ledger, &[], &narrow);
    assert_eq!(removed.dirty.ranges(), [(2, 2)]);
    let rest = run(&removed.ledger, &[], &scope());
    assert_eq!(rest.dirty.ranges(), [(1, 1), (3, 3)]);
    assert!(run(&rest.ledger, &[], &scope()).dirty.is_empty());
}

#[test]
fn readings_in_future_become_due_when_plausible() {
    let early = Scope {
        plausible_end: 6 * MICROS_PER_DAY,
        ..scope()
    };
    let first = run(&Ledger::default(), &[("a", "1", 4, 8)], &early);
    assert_eq!(first.dirty.ranges(), [(4, 5)]);
    assert_eq!(
        run(
            &first.ledger,
            &[("a", "1", 4, 8)],
            &Scope {
                plausible_end: 8 * MICROS_PER_DAY,
                ..scope()
            }
        )
        .dirty
        .ranges(),
        [(5, 7)]
    );
}

#[test]
fn last_plausible_date_stays_due_for_a_file_with_a_later_reading() {
    let noon = MICROS_PER_DAY / 2;
    let scope_until = |plausible_end: i64| Scope {
        plausible_end,
        ..scope()
    };
    let read = |last: i64, plausible_end: i64| {
        let mut plan = run(
            &Ledger::default(),
            &[("a", "1", 4, 5)],
            &scope_until(plausible_end),
        );
        assert_eq!(plan.dirty.ranges(), [(4, 5)]);
        for file in plan.ledger.files.values_mut() {
            (file.last, file.due) = (Some(last), DateSet::range(4, 5));
        }
        run(
            &plan.ledger,
            &[("a", "1", 4, 5)],
            &scope_until(plausible_end),
        )
        .ledger
    };
    let end = 5 * MICROS_PER_DAY + noon;
    assert!(read(end - 1, end).files["a"].due.is_empty());
    let ahead = read(end, end);
    assert_eq!(ahead.files["a"].due.ranges(), [(5, 5)]);
    let later = run(&ahead, &[("a", "1", 4, 5)], &scope());
    assert_eq!(later.dirty.ranges(), [(5, 5)]);
    assert!(later.ledger.files["a"].due.is_empty());
}

#[test]
fn dates_of_unfinished_run_are_computed_again() {
    let unfinished = Scope {
        unfinished: DateSet::range(7, 8),
        ..scope()
    };
    assert_eq!(
        run(&Ledger::default(), &[], &unfinished).dirty.ranges(),
        [(7, 8)]
    );
}

/// Moves the file at `path` to the archive.
fn archive(ledger: &mut Ledger, path: &str) {
    let file = ledger.files.remove(path).unwrap();
    let leaving = ExpiredRawFile {
        etag: file.etag.clone(),
        modified: file.modified,
        size: file.size,
        since: chrono::DateTime::default(),
    };
    ledger.leaving.insert(path.to_owned(), leaving);
    let archived = ArchivedFile {
        path: path.to_owned(),
        file,
        sha256: String::new(),
        archived_at: chrono::DateTime::default(),
    };
    ledger.archived.insert(format!("{path}-1"), archived);
}

#[test]
fn file_that_expired_is_neither_new_nor_removed() {
    let mut ledger = run(&Ledger::default(), &[("a", "1", 5, 6)], &scope()).ledger;
    archive(&mut ledger, "a");
    let still = run(&ledger, &[("a", "1", 5, 6)], &scope());
    assert!(still.dirty.is_empty());
    assert_eq!(still.ledger, ledger);
    let gone = run(&ledger, &[], &scope());
    assert!(gone.dirty.is_empty() && gone.ledger.leaving.is_empty());
    assert_eq!(gone.ledger.archived, ledger.archived);
    // A late file is computed together with the archived one,
    let late = run(&gone.ledger, &[("b", "1", 6, 7)], &scope());
    assert_eq!(late.dirty.ranges(), [(6, 7)]);
    assert_eq!(late.ledger.archived, ledger.archived);
    // a correction replaces the archived one,
    let corrected = run(&gone.ledger, &[("a", "2", 6, 6)], &scope());
    assert_eq!(corrected.dirty.ranges(), [(5, 6)]);
    assert!(corrected.ledger.archived.is_empty());
    assert!(corrected.ledger.unarchived.contains("a-1"));
    // and another file at the same path does not affect it.
    let other = run(&gone.ledger, &[("a", "2", 9, 9)], &scope());
    assert_eq!(other.dirty.ranges(), [(9, 9)]);
    assert_eq!(other.ledger.archived, ledger.archived);
}

#[test]
fn file_restored_from_archive_makes_no_date_due() {
    let mut ledger = run(&Ledger::default(), &[("a", "1", 5, 6)], &scope()).ledger;
    archive(&mut ledger, "a");
    let files = [RawFile {
        modified: 77,
        ..listed("a", "2")
    }];
    let changes = compare(&ledger, &files, false);
    let surveyed = SurveyResults {
        files: [(
            "a".to_owned(),
            KnownFile {
                modified: 77,
                ..file("2", 5, 6)
            },
        )]
        .into(),
        restored: [("a".to_owned(), "a-1".to_owned())].into(),
    };
    let back = plan(&ledger, &changes, surveyed, &scope());
    assert!(back.dirty.is_empty() && back.ledger.archived.is_empty());
    let known = &back.ledger.files["a"];
    assert_eq!(
        (known.etag.as_str(), known.modified, known.precedence()),
        ("2", 77, 0)
    );
}

#[test]
fn dates_sealed_while_due_are_no_longer_due() {
    let narrow = Scope {
        dates: Some((9, 9)),
        ..scope()
    };
    let files = [("a", "1", 5, 6)];
    let mut ledger = run(&Ledger::default(), &files, &narrow).ledger;
    assert_eq!(ledger.files["a"].due.ranges(), [(5, 6)]);
    ledger.sealed = DateSet::range(5, 5);
    let after = run(&ledger, &files, &scope());
    assert_eq!(after.dirty.ranges(), [(6, 6)]);
    assert!(after.ledger.files["a"].due.is_empty());
}

#[test]
fn dates_once_sealed_are_never_computed() {
    let mut ledger = run(
        &Ledger::default(),
        &[("a", "1", 5, 7), ("b", "1", 7, 9)],
        &scope(),
    )
    .ledger;
    ledger.files.remove("a");
    ledger.sealed = DateSet::range(5, 7);
    let before = [("b", "1", 7, 9)];
    assert!(run(&ledger, &before, &scope()).dirty.is_empty());
    // Files that are added, changed or removed do not change sealed dates,
    let late = run(
        &ledger,
        &[("b", "1", 7, 9), ("c", "1", 4, 6), ("d", "1", 5, 5)],
        &scope(),
    );
    assert_eq!(late.dirty.ranges(), [(4, 4)]);
    assert_eq!(late.ledger.files["c"].late.ranges(), [(5, 6)]);
    assert!(late.ledger.files["c"].quarantined.is_none());
    assert!(late.ledger.files["d"].quarantined.is_some());
    assert_eq!(run(&ledger, &[], &scope()).dirty.ranges(), [(8, 9)]);
    let changed = run(&ledger, &[("b", "2", 7, 8)], &scope());
    assert_eq!(changed.dirty.ranges(), [(8, 9)]);
    // nor does a crashed or a full run.
    let everything = Scope {
        unfinished: DateSet::range(6, 8),
        in_tables: DateSet::range(5, 9),
        ..scope()
    };
    assert_eq!(run(&ledger, &before, &everything).dirty.ranges(), [(8, 9)]);
    assert!(
        run(&ledger, &before, &everything).ledger.files["b"]
            .late
            .is_empty()
    );
}
