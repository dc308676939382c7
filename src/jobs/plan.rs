//! What a resample run has to do, worked out from what is known and what is there. Pure: no I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lake::raw::RawFile;
use crate::model::{AssetId, DateSet, Day};
use crate::resample::LeftOut;

/// What a run knew when it was published: every raw file, and what is still to be done about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The settings that the results depend on; when they change, everything is computed again.
    pub settings: String,
    /// Raw files by path.
    pub files: BTreeMap<String, KnownFile>,
    /// Dates that a removed or damaged file touched and that a run with `--from` or `--to` left for later.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub due: DateSet,
}

/// One raw file as it was last taken up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownFile {
    /// The version of the file.
    pub etag: String,
    /// When it was last modified, nanoseconds since the epoch. A store that names versions by their contents gives
    /// the same one to a file that is put again, which then is the younger of two with the same reading.
    #[serde(default)]
    pub modified: i64,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// At most so many minute rows come of it.
    pub minutes: u64,
    /// The asset that all its readings are of, where the footer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
    /// The dates that its readings touch, or more.
    pub dates: DateSet,
    /// Those of them that no run has computed with it yet.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub due: DateSet,
    /// Whether it may have readings without a plausible time that were not counted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untimed: bool,
    /// What was left out of it so far.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub left_out: LeftOut,
    /// Why it is in quarantine, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

impl KnownFile {
    fn is_version(&self, file: &RawFile) -> bool {
        (self.etag.as_str(), self.modified, self.size)
            == (file.etag.as_str(), file.modified, file.size)
    }

    /// At most so many minute rows on these dates, if the file's dates are all alike.
    pub fn minutes_on(&self, dates: &DateSet) -> f64 {
        self.minutes as f64 * self.dates.intersection(dates).len() as f64
            / self.dates.len().max(1) as f64
    }
}

fn is_nothing(left_out: &LeftOut) -> bool {
    left_out.total() == 0
}

/// How the raw folder differs from what is known.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files to look into: new or changed.
    pub fresh: Vec<RawFile>,
    /// How many of those are new.
    pub new: usize,
    /// Known files that are gone.
    pub removed: Vec<String>,
}

/// Compares a listing with the ledger; with `full`, or under other settings, every file is fresh.
pub fn compare(ledger: &Ledger, listed: &[RawFile], full: bool) -> Changes {
    let mut changes = Changes::default();
    for file in listed {
        let known = ledger.files.get(&file.path);
        if known.is_none() {
            changes.new += 1;
        }
        if full || known.is_none_or(|known| !known.is_version(file)) {
            changes.fresh.push(file.clone());
        }
    }
    let here: std::collections::HashSet<&str> =
        listed.iter().map(|file| file.path.as_str()).collect();
    changes.removed = ledger
        .files
        .keys()
        .filter(|path| !here.contains(path.as_str()))
        .cloned()
        .collect();
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
        self.ledger.files.get(path).is_some_and(|file| {
            let mut new = file.due.clone();
            if let Some(dates) = self.first_time.get(path) {
                new.extend(dates);
            }
            !file.dates.difference(&new).is_empty()
        })
    }
}

/// Works out the dates to compute, and the ledger that follows. `surveyed` has the files that
/// [`compare`] called fresh.
pub fn plan(
    before: &Ledger,
    changes: &Changes,
    surveyed: BTreeMap<String, KnownFile>,
    scope: &Scope,
) -> Plan {
    let mut due = before.due.clone();
    due.extend(&scope.unfinished);
    due.extend(&scope.in_tables);
    let mut ledger = Ledger {
        settings: before.settings.clone(),
        files: before.files.clone(),
        due: DateSet::default(),
    };
    for path in &changes.removed {
        if let Some(old) = ledger.files.remove(path) {
            due.extend(&old.dates);
        }
    }
    for (path, file) in surveyed {
        if let Some(old) = ledger.files.insert(path, file) {
            due.extend(&old.dates);
        }
    }
    let plausible = DateSet::range(Day::MIN, scope.last_plausible);
    let chosen = scope.dates.map_or_else(
        || plausible.clone(),
        |(first, last)| DateSet::range(first, last).intersection(&plausible),
    );
    let mut dirty = due.intersection(&chosen);
    for file in ledger.files.values() {
        if !file.due.is_empty() {
            dirty.extend(&file.due.intersection(&chosen));
        }
    }
    // The last plausible date may grow: readings on it that lie ahead of the clock are looked at again.
    let settled = DateSet::range(Day::MIN, scope.last_plausible.saturating_sub(1));
    let done = dirty.intersection(&settled);
    ledger.due = due.difference(&dirty);
    let mut first_time = BTreeMap::new();
    for (path, file) in &mut ledger.files {
        if !file.due.is_empty() {
            first_time.insert(path.clone(), file.due.intersection(&dirty));
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

#[cfg(test)]
mod tests {
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
}
