//! What a resample run has to do, worked out from what is known and what is there. Pure: no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger::{KnownFile, Ledger};
use crate::lake::raw::RawFile;
use crate::model::{DateSet, Day};

/// How the raw folder differs from what is known.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files to look into: new or changed.
    pub fresh: Vec<RawFile>,
    /// How many of those are new.
    pub new: usize,
    /// Known files that are gone.
    pub removed: Vec<String>,
    /// Expired files that have left the raw folder at last.
    pub left: Vec<String>,
}

/// Compares a listing with the ledger; with `full`, or under other settings, every file is fresh.
pub fn compare(ledger: &Ledger, listed: &[RawFile], full: bool) -> Changes {
    let mut changes = Changes::default();
    let leaves = |file: &RawFile| {
        let leaving = ledger.leaving.get(&file.path);
        leaving.is_some_and(|leaving| leaving.is_version(file))
    };
    for file in listed {
        if leaves(file) {
            continue;
        }
        let known = ledger.files.get(&file.path);
        if known.is_none() {
            changes.new += 1;
        }
        if full || known.is_none_or(|known| !known.is_version(file)) {
            changes.fresh.push(file.clone());
        }
    }
    let here: HashSet<&str> = listed.iter().map(|file| file.path.as_str()).collect();
    changes.removed = ledger
        .files
        .keys()
        .filter(|path| !here.contains(path.as_str()))
        .cloned()
        .collect();
    let still: HashSet<&str> = listed
        .iter()
        .filter(|file| leaves(file))
        .map(|file| file.path.as_str())
        .collect();
    let left = ledger.leaving.keys();
    let left = left.filter(|path| !still.contains(path.as_str()));
    changes.left = left.cloned().collect();
    changes
}

/// What decides which dates a run computes, beside the files.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Only these dates, if given; others stay due.
    pub dates: Option<(Day, Day)>,
    /// The last date that has a plausible instant now; what lies later stays due.
    pub last_plausible: Day,
    /// Dates of runs that began and were never published.
    pub unfinished: DateSet,
    /// Dates that the tables have, for a full run.
    pub in_tables: DateSet,
}

/// What a run will do.
#[derive(Debug)]
pub struct Plan {
    /// The dates to compute.
    pub dirty: DateSet,
    /// The ledger as it will be once they are computed.
    pub ledger: Ledger,
    /// The dates that are computed with a file for the first time: what is left out of it is counted now.
    pub first_time: BTreeMap<String, DateSet>,
}

impl Plan {
    /// Whether results that this plan does not replace were made with the file.
    pub fn is_used_elsewhere(&self, path: &str) -> bool {
        self.ledger.file(path).is_some_and(|file| {
            let mut new = file.due.clone();
            if let Some(dates) = self.first_time.get(path) {
                new.extend(dates);
            }
            !file.dates.difference(&new).is_empty()
        })
    }
}

/// What was found out about files, by their keys in the ledger.
#[derive(Debug, Default)]
pub struct Surveyed {
    /// Those that [`compare`] called fresh, and for a full run those in the archive.
    pub files: BTreeMap<String, KnownFile>,
    /// Raw files that are the same, byte for byte, as one in the archive that had their path: its name there.
    pub came_back: BTreeMap<String, String>,
}

/// Works out the dates to compute, and the ledger that follows.
pub fn plan(before: &Ledger, changes: &Changes, surveyed: Surveyed, scope: &Scope) -> Plan {
    let mut due = before.due.clone();
    due.extend(&scope.unfinished);
    due.extend(&scope.in_tables);
    let mut ledger = Ledger {
        due: DateSet::default(),
        ..before.clone()
    };
    for path in &changes.left {
        ledger.leaving.remove(path);
    }
    for path in &changes.removed {
        if let Some(old) = ledger.files.remove(path) {
            due.extend(&old.dates);
        }
    }
    let archived = names_by_path(&ledger);
    let is_archived = |(key, _): &(String, KnownFile)| Ledger::archive_name(key).is_some();
    let (in_archive, raw): (Vec<_>, Vec<_>) = surveyed.files.into_iter().partition(is_archived);
    // First, for some may be taken out by raw ones.
    for (key, file) in in_archive {
        if let Some(old) = ledger.file_mut(&key) {
            due.extend(&old.dates);
            let old = std::mem::replace(old, file);
            keep_identity(&mut ledger, &key, &old);
        }
    }
    for (key, mut file) in raw {
        match surveyed.came_back.get(&key) {
            Some(name) => come_back(&mut ledger, &mut file, name),
            None => {
                let same = ledger.files.get(&key);
                let same = same.filter(|old| {
                    (&old.etag, old.modified, old.size) == (&file.etag, file.modified, file.size)
                });
                file.late = match same {
                    Some(old) => old.late.clone(),
                    None => file.dates.intersection(&ledger.sealed),
                };
                file.ranks_as = same.and_then(|old| old.ranks_as);
                let names = archived.get(&key).into_iter().flatten();
                replace_archived(&mut ledger, names, &file, &mut due);
            }
        }
        seal(&mut file);
        if let Some(old) = ledger.files.insert(key, file) {
            due.extend(&old.dates);
        }
    }
    let due = due.difference(&ledger.sealed);
    keep_sealed(&mut ledger);
    let plausible = DateSet::range(Day::MIN, scope.last_plausible);
    let chosen = scope.dates.map_or_else(
        || plausible.clone(),
        |(first, last)| DateSet::range(first, last).intersection(&plausible),
    );
    let mut dirty = due.intersection(&chosen);
    for file in ledger.all_files() {
        if !file.due.is_empty() {
            dirty.extend(&file.due.intersection(&chosen));
        }
    }
    // The last plausible date may grow: readings on it that lie ahead of the clock are looked at again.
    let settled = DateSet::range(Day::MIN, scope.last_plausible.saturating_sub(1));
    let done = dirty.intersection(&settled);
    ledger.due = due.difference(&dirty);
    let mut first_time = BTreeMap::new();
    ledger.recomputed.extend(&dirty);
    for (key, file) in ledger.all_files_mut() {
        if !file.due.is_empty() {
            first_time.insert(key, file.due.intersection(&dirty));
            let ahead = file
                .dates
                .last()
                .is_some_and(|last| last > scope.last_plausible);
            file.due = file.due.difference(if ahead { &done } else { &dirty });
        }
    }
    Plan {
        dirty,
        ledger,
        first_time,
    }
}

/// Of a file that has nothing but sealed dates, nothing is used.
fn seal(file: &mut KnownFile) {
    if file.late.is_empty() || file.quarantined.is_some() {
        return;
    }
    if file.dates.difference(&file.late).is_empty() {
        file.quarantined = Some(format!(
            "all its dates are sealed ({}): their raw files have expired and were deleted, so their averages cannot be \
             computed again. Remove it",
            file.late
        ));
        file.dates = DateSet::default();
        file.due = DateSet::default();
        file.untimed = false;
    }
}

/// Nothing is due of sealed dates, even where it was due before they were sealed.
fn keep_sealed(ledger: &mut Ledger) {
    let sealed = ledger.sealed.clone();
    for (_, file) in ledger.all_files_mut() {
        file.due = file.due.difference(&sealed);
    }
}

/// A file of the archive that was looked into again is the same file still.
fn keep_identity(ledger: &mut Ledger, key: &str, old: &KnownFile) {
    if let Some(file) = ledger.file_mut(key) {
        file.etag.clone_from(&old.etag);
        file.modified = old.modified;
        file.size = old.size;
        file.ranks_as = old.ranks_as;
        file.late = old.late.clone();
    }
}

/// A raw file is one that was in the archive: nothing has changed by that.
fn come_back(ledger: &mut Ledger, file: &mut KnownFile, name: &str) {
    if let Some(archived) = ledger.archived.remove(name) {
        ledger.unarchived.insert(name.to_owned());
        *file = KnownFile {
            etag: std::mem::take(&mut file.etag),
            modified: file.modified,
            ranks_as: Some(archived.file.rank()),
            ..archived.file
        };
    }
}

/// The names in the archive of what was once in each place.
pub(super) fn names_by_path(ledger: &Ledger) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for (name, archived) in &ledger.archived {
        let of_path = names.entry(archived.path.clone()).or_default();
        of_path.push(name.clone());
    }
    names
}

/// A raw file takes the place of those in the archive that had its path and have dates in common with it: it is a
/// correction.
fn replace_archived<'a>(
    ledger: &mut Ledger,
    names: impl Iterator<Item = &'a String>,
    file: &KnownFile,
    due: &mut DateSet,
) {
    for name in names {
        let archived = ledger.archived.get(name);
        if archived.is_some_and(|archived| archived.file.dates.intersects(&file.dates))
            && let Some(archived) = ledger.archived.remove(name)
        {
            due.extend(&archived.file.dates);
            ledger.unarchived.insert(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{ArchivedFile, Leaving};
    use super::*;

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
        }
    }

    fn scope() -> Scope {
        Scope {
            dates: None,
            last_plausible: 1_000,
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
        let surveyed = Surveyed {
            files: surveyed,
            ..Surveyed::default()
        };
        plan(before, &changes, surveyed, scope)
    }

    #[test]
    fn a_file_put_again_as_it_was_is_a_changed_file() {
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
    fn added_changed_and_removed_files_dirty_their_old_and_new_dates() {
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
    fn what_lies_outside_the_scope_stays_due() {
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
    fn readings_ahead_of_the_clock_become_due_when_their_time_comes() {
        let early = Scope {
            last_plausible: 5,
            ..scope()
        };
        let first = run(&Ledger::default(), &[("a", "1", 4, 8)], &early);
        assert_eq!(first.dirty.ranges(), [(4, 5)]);
        assert_eq!(
            run(
                &first.ledger,
                &[("a", "1", 4, 8)],
                &Scope {
                    last_plausible: 7,
                    ..scope()
                }
            )
            .dirty
            .ranges(),
            [(5, 7)]
        );
    }

    #[test]
    fn dates_of_an_unfinished_run_are_computed_again() {
        let unfinished = Scope {
            unfinished: DateSet::range(7, 8),
            ..scope()
        };
        assert_eq!(
            run(&Ledger::default(), &[], &unfinished).dirty.ranges(),
            [(7, 8)]
        );
    }

    /// `path` as it was, in the archive.
    fn archive(ledger: &mut Ledger, path: &str) {
        let file = ledger.files.remove(path).unwrap();
        let leaving = Leaving {
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
    fn a_file_that_expired_is_neither_new_nor_removed() {
        let mut ledger = run(&Ledger::default(), &[("a", "1", 5, 6)], &scope()).ledger;
        archive(&mut ledger, "a");
        let still = run(&ledger, &[("a", "1", 5, 6)], &scope());
        assert!(still.dirty.is_empty());
        assert_eq!(still.ledger, ledger);
        let gone = run(&ledger, &[], &scope());
        assert!(gone.dirty.is_empty() && gone.ledger.leaving.is_empty());
        assert_eq!(gone.ledger.archived, ledger.archived);
        // What comes late is computed together with what is in the archive,
        let late = run(&gone.ledger, &[("b", "1", 6, 7)], &scope());
        assert_eq!(late.dirty.ranges(), [(6, 7)]);
        assert_eq!(late.ledger.archived, ledger.archived);
        // a correction without it,
        let corrected = run(&gone.ledger, &[("a", "2", 6, 6)], &scope());
        assert_eq!(corrected.dirty.ranges(), [(5, 6)]);
        assert!(corrected.ledger.archived.is_empty());
        assert!(corrected.ledger.unarchived.contains("a-1"));
        // and another file of that name has nothing to do with it.
        let other = run(&gone.ledger, &[("a", "2", 9, 9)], &scope());
        assert_eq!(other.dirty.ranges(), [(9, 9)]);
        assert_eq!(other.ledger.archived, ledger.archived);
    }

    #[test]
    fn a_file_that_comes_back_from_the_archive_changes_nothing() {
        let mut ledger = run(&Ledger::default(), &[("a", "1", 5, 6)], &scope()).ledger;
        archive(&mut ledger, "a");
        let files = [RawFile {
            modified: 77,
            ..listed("a", "2")
        }];
        let changes = compare(&ledger, &files, false);
        let surveyed = Surveyed {
            files: [(
                "a".to_owned(),
                KnownFile {
                    modified: 77,
                    ..file("2", 5, 6)
                },
            )]
            .into(),
            came_back: [("a".to_owned(), "a-1".to_owned())].into(),
        };
        let back = plan(&ledger, &changes, surveyed, &scope());
        assert!(back.dirty.is_empty() && back.ledger.archived.is_empty());
        let known = &back.ledger.files["a"];
        assert_eq!(
            (known.etag.as_str(), known.modified, known.rank()),
            ("2", 77, 0)
        );
    }

    #[test]
    fn nothing_is_due_of_dates_that_were_sealed_since() {
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
    fn sealed_dates_stay_as_they_are() {
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
        // Not by files that come, change or go,
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
        // by a dead run, or by a full one.
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
}
