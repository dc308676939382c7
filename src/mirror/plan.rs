//! What a run is to do: which dates of a table came from other files than the lake has now. Nothing here does I/O.
//!
//! Data files never change, so a date that came from files of the same names is the same to the bit. The files of a
//! minute partition are those of its date. Hours and days are in files of months and years, which are rewritten for any
//! of their dates; but they are made of minutes, so what their dates came from is told by the minutes' files.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{self, SHA256};
use chrono::{DateTime, TimeDelta, Utc};

use super::MirrorError;
use crate::lake::table::DataFile;
use crate::model::{DateSet, Day, Resolution, day_of};

/// A hash over the names of the files that a date came from.
pub(super) type Source = [u8; 32];
/// What each date came from; dates without rows are not in it.
pub(super) type Parts = BTreeMap<Day, Source>;

/// Hashes of another form are never equal to those of today's.
const FORM: &[u8] = b"1";
/// No date is later; still a time that Postgres can name.
pub(super) const LAST_DAY: Day = 73_000_000;

/// Dates whose rows are in the same files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// The files with rows of the dates.
    pub files: Vec<DataFile>,
    /// The dates that are to become as the files have them.
    pub dates: DateSet,
}

/// What is to be done to one table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TablePlan {
    pub resolution: Resolution,
    /// The first date of the window.
    pub first: Day,
    /// Dates that the lake has rows of.
    pub units: Vec<Unit>,
    /// Dates of which it has none.
    pub vanished: DateSet,
    /// What is to be written down of dates,
    pub changed: Parts,
    /// and the dates of which nothing is to be written down any more.
    pub forgotten: Vec<Day>,
}

impl TablePlan {
    /// How many dates the lake has other rows of.
    pub fn dates(&self) -> usize {
        self.units.iter().map(|unit| unit.dates.len()).sum()
    }

    /// How many dates of the window had rows and have none now.
    pub fn lost(&self) -> usize {
        let inside = self.forgotten.iter().filter(|day| **day >= self.first);
        inside.count()
    }

    /// How many rows are read for it, as far as the log says.
    pub fn rows(&self) -> u64 {
        let files = self.units.iter().flat_map(|unit| &unit.files);
        files.filter_map(|file| file.rows).sum()
    }
}

/// The first date of the window that reaches so far back.
pub(super) fn first_date(now: DateTime<Utc>, window: TimeDelta) -> Day {
    let start = now.checked_sub_signed(window);
    start.map_or(Day::MIN, |start| day_of(start.timestamp_micros()))
}

/// The files of each partition, with its first and last date.
type Partitions<'a> = BTreeMap<(Day, Day), Vec<&'a DataFile>>;

fn partitions(resolution: Resolution, files: &[DataFile]) -> Result<Partitions<'_>, MirrorError> {
    let mut found = Partitions::new();
    for file in files {
        let days = file.partition.days().ok_or_else(|| MirrorError::Foreign {
            table: resolution.table(),
            problem: format!("{:?} is not a partition of it", file.partition.text()),
        })?;
        found.entry(days).or_default().push(file);
    }
    Ok(found)
}

fn source(files: &[&DataFile]) -> Source {
    let names: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut hash = digest::Context::new(&SHA256);
    hash.update(FORM);
    for name in names {
        // No name has a line's end in it.
        hash.update(b"\n");
        hash.update(name.as_bytes());
    }
    let mut source = [0; 32];
    source.copy_from_slice(hash.finish().as_ref());
    source
}

/// What each date came from that the lake has minutes of.
pub(super) fn minute_parts(files: &[DataFile]) -> Result<Parts, MirrorError> {
    let partitions = partitions(Resolution::Minute, files)?;
    let parts = partitions
        .iter()
        .map(|((day, _), files)| (*day, source(files)));
    Ok(parts.collect())
}

/// The dates on which a file may have rows.
fn dates_of(file: &DataFile, (first, last): (Day, Day)) -> DateSet {
    let first = file.min_time.map_or(first, |time| first.max(day_of(time)));
    let last = file.max_time.map_or(last, |time| last.min(day_of(time)));
    DateSet::range(first, last)
}

/// What to do to the table of `resolution`, whose files these are, so that it becomes the lake's from `first` on.
/// Minutes of dates before `minutes_from` may have expired, even if some are there. `recorded` is what the table's dates came
/// from when it was last mirrored. With `full`, nothing that is written down counts,
/// and what lies between the lake's dates is emptied.
pub(super) fn plan(
    resolution: Resolution,
    first: Day,
    files: &[DataFile],
    minutes: &Parts,
    minutes_from: Option<Day>,
    recorded: &Parts,
    full: bool,
) -> Result<TablePlan, MirrorError> {
    let expired_before = minutes.keys().next().copied().max(minutes_from);
    let mut wanted = Parts::new();
    let mut units = Vec::new();
    for (days, files) in partitions(resolution, files)? {
        let mut inside = DateSet::default();
        for file in &files {
            inside.extend(&dates_of(file, days));
        }
        let inside = inside.intersection(&DateSet::range(first, LAST_DAY));
        // Of dates whose minutes have expired, the partition's own files tell. Later ones without minutes have no rows.
        let own = source(&files);
        let mut dirty = DateSet::default();
        for day in inside.iter() {
            let source = match minutes.get(&day) {
                Some(source) => *source,
                None if expired_before.is_none_or(|first| day < first) => own,
                None => continue,
            };
            wanted.insert(day, source);
            if full || recorded.get(&day) != Some(&source) {
                dirty.insert(day);
            }
        }
        let has_some = |file: &&&DataFile| dates_of(file, days).intersects(&dirty);
        if !dirty.is_empty() {
            units.push(Unit {
                files: files
                    .iter()
                    .filter(has_some)
                    .map(|file| (*file).clone())
                    .collect(),
                dates: dirty,
            });
        }
    }
    let vanished = match full {
        true => {
            let dates = wanted.keys().copied().collect();
            DateSet::range(first, LAST_DAY).difference(&dates)
        }
        false => {
            let gone = recorded.range(first..).map(|(day, _)| *day);
            gone.filter(|day| !wanted.contains_key(day)).collect()
        }
    };
    let forgotten = recorded.keys().filter(|day| !wanted.contains_key(day));
    Ok(TablePlan {
        resolution,
        first,
        units,
        vanished,
        forgotten: forgotten.copied().collect(),
        changed: wanted
            .into_iter()
            .filter(|(day, source)| recorded.get(day) != Some(source))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lake::table::Partition;
    use crate::model::MICROS_PER_DAY;

    /// A file with rows on `first..=last`, in the partition of the first.
    fn file(resolution: Resolution, name: &str, first: Day, last: Day) -> DataFile {
        DataFile {
            path: name.to_owned(),
            size: 1,
            rows: Some(10),
            partition: Partition::of(resolution, first),
            min_time: Some(i64::from(first) * MICROS_PER_DAY),
            max_time: Some(i64::from(last) * MICROS_PER_DAY + 999),
            min_asset: None,
            max_asset: None,
        }
    }

    fn minutes(days: &[(Day, &str)]) -> Vec<DataFile> {
        let files = days.iter();
        files
            .map(|(day, name)| file(Resolution::Minute, name, *day, *day))
            .collect()
    }

    fn dirty(plan: &TablePlan) -> DateSet {
        let mut dates = DateSet::default();
        for unit in &plan.units {
            dates.extend(&unit.dates);
        }
        dates
    }

    /// What is written down after the plan was carried out.
    fn after(recorded: &Parts, plan: &TablePlan) -> Parts {
        let mut recorded = recorded.clone();
        recorded.retain(|day, _| !plan.forgotten.contains(day));
        recorded.extend(&plan.changed);
        recorded
    }

    #[test]
    fn a_window_begins_with_a_whole_date() {
        let now = "2026-11-25T13:00:00Z".parse().unwrap();
        let today = first_date(now, TimeDelta::hours(1));
        assert_eq!(crate::model::day_to_date(today).to_string(), "2026-11-25");
        assert_eq!(first_date(now, TimeDelta::hours(14)), today - 1);
        assert_eq!(first_date(now, TimeDelta::days(7)), today - 7);
        assert_eq!(first_date(now, TimeDelta::days(200_000_000)), Day::MIN);
    }

    #[test]
    fn only_dates_that_came_from_other_files_are_mirrored_again() {
        let files = minutes(&[(1, "a"), (2, "b"), (3, "c"), (5, "e")]);
        let parts = minute_parts(&files).unwrap();
        let first = plan(
            Resolution::Minute,
            2,
            &files,
            &parts,
            None,
            &Parts::new(),
            false,
        )
        .unwrap();
        assert_eq!(dirty(&first).ranges(), [(2, 3), (5, 5)]);
        assert_eq!((first.dates(), first.rows()), (3, 30));
        let recorded = after(&Parts::new(), &first);

        let files = minutes(&[(1, "a2"), (2, "b"), (3, "c2"), (4, "d")]);
        let parts = minute_parts(&files).unwrap();
        let next = plan(
            Resolution::Minute,
            2,
            &files,
            &parts,
            None,
            &recorded,
            false,
        )
        .unwrap();
        assert_eq!(dirty(&next).ranges(), [(3, 4)]);
        assert_eq!(next.vanished.ranges(), [(5, 5)]);
        let recorded = after(&recorded, &next);
        let again = plan(
            Resolution::Minute,
            2,
            &files,
            &parts,
            None,
            &recorded,
            false,
        )
        .unwrap();
        assert!(again.units.is_empty() && again.vanished.is_empty() && again.changed.is_empty());

        // Time goes on: what left the window is forgotten, and is pruned elsewhere.
        let later = plan(
            Resolution::Minute,
            4,
            &files,
            &parts,
            None,
            &recorded,
            false,
        )
        .unwrap();
        assert!(later.units.is_empty() && later.vanished.is_empty());
        assert_eq!(later.forgotten, [2, 3]);
        // And back, as when the setting is changed.
        let recorded = after(&recorded, &later);
        let wider = plan(
            Resolution::Minute,
            1,
            &files,
            &parts,
            None,
            &recorded,
            false,
        )
        .unwrap();
        assert_eq!(dirty(&wider).ranges(), [(1, 3)]);
    }

    #[test]
    fn hours_of_a_month_are_told_apart_by_their_minutes() {
        let parts = minute_parts(&minutes(&[(0, "a"), (9, "b")])).unwrap();
        let month = [file(Resolution::Hour, "month", 0, 9)];
        let first = plan(
            Resolution::Hour,
            0,
            &month,
            &parts,
            None,
            &Parts::new(),
            false,
        )
        .unwrap();
        assert_eq!(dirty(&first).ranges(), [(0, 0), (9, 9)]);
        let recorded = after(&Parts::new(), &first);
        // The ninth changes, and with it the file of the month.
        let parts = minute_parts(&minutes(&[(0, "a"), (9, "b2")])).unwrap();
        let month = [file(Resolution::Hour, "month2", 0, 9)];
        let next = plan(Resolution::Hour, 0, &month, &parts, None, &recorded, false).unwrap();
        assert_eq!(dirty(&next).ranges(), [(9, 9)]);
        assert!(next.vanished.is_empty());
        let recorded = after(&recorded, &next);
        // Minutes expire: the hours stay, and are told by their own files from then on.
        let parts = minute_parts(&minutes(&[(9, "b2")])).unwrap();
        let next = plan(Resolution::Hour, 0, &month, &parts, None, &recorded, false).unwrap();
        assert_eq!(dirty(&next).ranges(), [(0, 8)]);
        assert!(next.vanished.is_empty() && next.forgotten.is_empty());
        let recorded = after(&recorded, &next);
        // Some come back, computed again or from the archive: dates between that have none have hours all the same.
        let parts = minute_parts(&minutes(&[(0, "a3"), (9, "b2")])).unwrap();
        let next = plan(
            Resolution::Hour,
            0,
            &month,
            &parts,
            Some(9),
            &recorded,
            false,
        )
        .unwrap();
        assert_eq!(dirty(&next).ranges(), [(0, 0)]);
        assert!(next.vanished.is_empty() && next.forgotten.is_empty());
    }

    #[test]
    fn a_full_run_compares_and_empties_the_whole_window() {
        let files = minutes(&[(2, "b"), (4, "d")]);
        let parts = minute_parts(&files).unwrap();
        let first = plan(
            Resolution::Minute,
            1,
            &files,
            &parts,
            None,
            &Parts::new(),
            false,
        )
        .unwrap();
        let recorded = after(&Parts::new(), &first);
        let full = plan(Resolution::Minute, 1, &files, &parts, None, &recorded, true).unwrap();
        assert_eq!(dirty(&full).ranges(), [(2, 2), (4, 4)]);
        assert_eq!(full.vanished.ranges(), [(1, 1), (3, 3), (5, LAST_DAY)]);
    }

    #[test]
    fn files_without_rows_of_the_dates_are_not_read() {
        let parts = minute_parts(&minutes(&[(0, "a"), (9, "b2")])).unwrap();
        let month = [
            file(Resolution::Hour, "begin", 0, 0),
            file(Resolution::Hour, "end", 9, 9),
        ];
        let recorded = minute_parts(&minutes(&[(0, "a"), (9, "b")])).unwrap();
        let next = plan(Resolution::Hour, 0, &month, &parts, None, &recorded, false).unwrap();
        assert_eq!(next.units.len(), 1);
        assert_eq!(next.units[0].files[0].path, "end");
    }

    proptest! {
        /// Whatever came before, after a plan all that is written down is what the lake has inside the window.
        #[test]
        fn what_is_written_down_becomes_what_the_lake_has(
            before in proptest::collection::btree_map(-10..10_i32, 0..3_u8, 0..8),
            now in proptest::collection::btree_map(-10..10_i32, 0..3_u8, 0..8),
            starts in (-12..12_i32, -12..12_i32),
            full: bool,
        ) {
            let files = |days: &BTreeMap<Day, u8>| -> Vec<DataFile> {
                let file = |(day, version): (&Day, &u8)| {
                    file(Resolution::Minute, &format!("{day}-{version}"), *day, *day)
                };
                days.iter().map(file).collect()
            };
            let (before, now) = (files(&before), files(&now));
            let (old, new) = (minute_parts(&before).unwrap(), minute_parts(&now).unwrap());
            let first = plan(Resolution::Minute, starts.0, &before, &old, None, &Parts::new(), false).unwrap();
            let recorded = after(&Parts::new(), &first);
            let next = plan(Resolution::Minute, starts.1, &now, &new, None, &recorded, full).unwrap();
            let mut due = new.clone();
            due.retain(|day, _| *day >= starts.1);
            prop_assert_eq!(after(&recorded, &next), due.clone());
            for day in starts.1..12 {
                let differs = full || recorded.get(&day) != due.get(&day);
                let is_touched = dirty(&next).contains(day) || next.vanished.contains(day);
                prop_assert_eq!(differs, is_touched, "date {}", day);
                prop_assert!(!(dirty(&next).contains(day) && next.vanished.contains(day)));
            }
        }
    }
}
