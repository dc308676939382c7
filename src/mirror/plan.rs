//! Plans a run: determines which dates of a table came from other files than the lake has now. This module does no I/O.
//!
//! Data files are immutable, so a date from files of the same names is equal bit by bit. The files of a minute partition
//! belong to its date. Hours and days are in files of months and years, which are rewritten when any of their dates changes.
//! Since they are computed from minutes, the minutes' files identify the source of their dates.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{self, SHA256};
use chrono::{DateTime, TimeDelta, Utc};

use super::error::MirrorError;
use crate::lake::delta::partition::DataFile;
use crate::model::{DateSet, Day, Resolution, day_of};
use crate::rollup_schema::RollupSchema;

/// A hash of the names of the files that a date came from.
pub(super) type SourceHash = [u8; 32];
/// The source of each date with rows.
pub(super) type DateSources = BTreeMap<Day, SourceHash>;

/// The version of the hash. Hashes of other versions never match.
const HASH_VERSION: &[u8] = b"1";
/// The latest date; Postgres can still represent it.
pub(super) const MAX_DAY: Day = 73_000_000;

/// Dates whose rows are in the same files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DateGroup {
    /// The files with rows of the dates.
    pub files: Vec<DataFile>,
    /// The dates whose rows are made equal to those in the files.
    pub dates: DateSet,
}

/// The plan for one table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TablePlan {
    pub resolution: Resolution,
    /// The first date of the window.
    pub first: Day,
    /// Dates that have rows in the lake and differ.
    pub groups: Vec<DateGroup>,
    /// Dates that have no rows in the lake.
    pub removed: DateSet,
    /// The sources to store,
    pub changed: DateSources,
    /// and the dates whose sources are to be removed.
    pub obsolete: Vec<Day>,
}

impl TablePlan {
    /// Returns the number of dates whose rows in the lake differ.
    pub fn changed_dates(&self) -> usize {
        self.groups.iter().map(|unit| unit.dates.len()).sum()
    }

    /// Returns the number of dates in the window that had rows and have none now.
    pub fn removed_dates(&self) -> usize {
        let inside = self.obsolete.iter().filter(|day| **day >= self.first);
        inside.count()
    }

    /// Returns the number of rows to read, as far as the Delta log contains it.
    pub fn rows(&self) -> u64 {
        let files = self.groups.iter().flat_map(|unit| &unit.files);
        files.filter_map(|file| file.rows).sum()
    }
}

/// Returns the first date of a window of this length.
pub(super) fn first_date(now: DateTime<Utc>, window: TimeDelta) -> Day {
    let start = now.checked_sub_signed(window);
    start.map_or(Day::MIN, |start| day_of(start.timestamp_micros()))
}

/// The files of each partition, by its first and last date.
type Partitions<'a> = BTreeMap<(Day, Day), Vec<&'a DataFile>>;

fn partitions(resolution: Resolution, files: &[DataFile]) -> Result<Partitions<'_>, MirrorError> {
    let mut found = Partitions::new();
    for file in files {
        let days = file
            .partition
            .days()
            .ok_or_else(|| MirrorError::UnexpectedData {
                table: resolution.table(),
                problem: format!("{:?} is not one of its partitions", file.partition.as_str()),
            })?;
        found.entry(days).or_default().push(file);
    }
    Ok(found)
}

/// Returns the hash of the names of the files, and of the `later` columns that are copied: if a version with other columns
/// has copied a date, its source differs.
fn source_hash(files: &[&DataFile], later: &[&'static str]) -> SourceHash {
    let names: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut hash = digest::Context::new(&SHA256);
    hash.update(HASH_VERSION);
    for name in later {
        hash.update(b"+");
        hash.update(name.as_bytes());
    }
    for name in names {
        // File names contain no line break.
        hash.update(b"\n");
        hash.update(name.as_bytes());
    }
    let mut source = [0; 32];
    source.copy_from_slice(hash.finish().as_ref());
    source
}

/// The sources of minutes, which also identify the sources of hours and days.
#[derive(Debug, Default)]
pub(super) struct MinuteSources {
    /// The names of the columns that older versions do not copy.
    later: Vec<&'static str>,
    dates: DateSources,
}

impl MinuteSources {
    /// Creates sources without dates for a copy of the columns of `schema`.
    pub fn new(schema: &RollupSchema) -> Self {
        Self {
            later: schema.later_columns().map(|column| column.name).collect(),
            dates: DateSources::new(),
        }
    }

    /// Sets the source of each date with minutes in the lake.
    pub fn read(&mut self, files: &[DataFile]) -> Result<(), MirrorError> {
        let partitions = partitions(Resolution::Minute, files)?;
        let parts = partitions
            .iter()
            .map(|((day, _), files)| (*day, source_hash(files, &self.later)));
        self.dates = parts.collect();
        Ok(())
    }
}

/// Returns the dates on which a file may have rows.
fn file_dates(file: &DataFile, (first, last): (Day, Day)) -> DateSet {
    let first = file.min_time.map_or(first, |time| first.max(day_of(time)));
    let last = file.max_time.map_or(last, |time| last.min(day_of(time)));
    DateSet::range(first, last)
}

/// Plans the changes that make the table of `resolution` equal to the lake from `first` on. `files` are its files in the
/// lake. Minutes before `minutes_from` may have expired, even if some are there. `recorded` contains the sources at the last
/// run. If `full`, the recorded sources are ignored, and the dates between those of the lake are emptied.
pub(super) fn plan(
    resolution: Resolution,
    first: Day,
    files: &[DataFile],
    minutes: &MinuteSources,
    minutes_from: Option<Day>,
    recorded: &DateSources,
    full: bool,
) -> Result<TablePlan, MirrorError> {
    let expired_before = minutes.dates.keys().next().copied().max(minutes_from);
    let mut wanted = DateSources::new();
    let mut units = Vec::new();
    for (days, files) in partitions(resolution, files)? {
        let mut inside = DateSet::default();
        for file in &files {
            inside.extend(&file_dates(file, days));
        }
        let inside = inside.intersection(&DateSet::range(first, MAX_DAY));
        // If the minutes of a date have expired, the files of its own partition are its source. Later dates without minutes
        // have no rows.
        let own = source_hash(&files, &minutes.later);
        let mut dirty = DateSet::default();
        for day in inside.iter() {
            let source = match minutes.dates.get(&day) {
                Some(source) => *source,
                None if expired_before.is_none_or(|first| day < first) => own,
                None => continue,
            };
            wanted.insert(day, source);
            if full || recorded.get(&day) != Some(&source) {
                dirty.insert(day);
            }
        }
        let has_some = |file: &&&DataFile| file_dates(file, days).intersects(&dirty);
        if !dirty.is_empty() {
            units.push(DateGroup {
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
            DateSet::range(first, MAX_DAY).difference(&dates)
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
        groups: units,
        removed: vanished,
        obsolete: forgotten.copied().collect(),
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
    use crate::lake::delta::partition::Partition;
    use crate::model::MICROS_PER_DAY;

    /// Returns a file with rows on `first..=last`, in the partition of the first date.
    fn file(resolution: Resolution, name: &str, first: Day, last: Day) -> DataFile {
        DataFile {
            path: name.to_owned(),
            size: 1,
            rows: Some(10),
            partition: Partition::containing(resolution, first),
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

    fn minute_sources(files: &[DataFile]) -> Result<MinuteSources, MirrorError> {
        let mut sources = MinuteSources::new(RollupSchema::declared());
        sources.read(files)?;
        Ok(sources)
    }

    fn dirty(plan: &TablePlan) -> DateSet {
        let mut dates = DateSet::default();
        for unit in &plan.groups {
            dates.extend(&unit.dates);
        }
        dates
    }

    /// Returns the stored sources after the plan was carried out.
    fn after(recorded: &DateSources, plan: &TablePlan) -> DateSources {
        let mut recorded = recorded.clone();
        recorded.retain(|day, _| !plan.obsolete.contains(day));
        recorded.extend(&plan.changed);
        recorded
    }

    #[test]
    fn first_date_is_a_whole_date() {
        let now = "2026-11-25T13:00:00Z".parse().unwrap();
        let today = first_date(now, TimeDelta::hours(1));
        assert_eq!(crate::model::day_to_date(today).to_string(), "2026-11-25");
        assert_eq!(first_date(now, TimeDelta::hours(14)), today - 1);
        assert_eq!(first_date(now, TimeDelta::days(7)), today - 7);
        assert_eq!(first_date(now, TimeDelta::days(200_000_000)), Day::MIN);
    }

    #[test]
    fn plan_includes_only_dates_from_other_files() {
        let files = minutes(&[(1, "a"), (2, "b"), (3, "c"), (5, "e")]);
        let parts = minute_sources(&files).unwrap();
        let first = plan(
            Resolution::Minute,
            2,
            &files,
            &parts,
            None,
            &DateSources::new(),
            false,
        )
        .unwrap();
        assert_eq!(dirty(&first).ranges(), [(2, 3), (5, 5)]);
        assert_eq!((first.changed_dates(), first.rows()), (3, 30));
        let recorded = after(&DateSources::new(), &first);

        let files = minutes(&[(1, "a2"), (2, "b"), (3, "c2"), (4, "d")]);
        let parts = minute_sources(&files).unwrap();
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
        assert_eq!(next.removed.ranges(), [(5, 5)]);
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
        assert!(again.groups.is_empty() && again.removed.is_empty() && again.changed.is_empty());

        // Dates that left the window are forgotten; their rows are pruned elsewhere.
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
        assert!(later.groups.is_empty() && later.removed.is_empty());
        assert_eq!(later.obsolete, [2, 3]);
        // The window grows again, as when the setting is changed.
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
    fn plan_of_hours_compares_sources_of_minutes() {
        let parts = minute_sources(&minutes(&[(0, "a"), (9, "b")])).unwrap();
        let month = [file(Resolution::Hour, "month", 0, 9)];
        let first = plan(
            Resolution::Hour,
            0,
            &month,
            &parts,
            None,
            &DateSources::new(),
            false,
        )
        .unwrap();
        assert_eq!(dirty(&first).ranges(), [(0, 0), (9, 9)]);
        let recorded = after(&DateSources::new(), &first);
        // The rows of day 9 change, and with them the file of the month.
        let parts = minute_sources(&minutes(&[(0, "a"), (9, "b2")])).unwrap();
        let month = [file(Resolution::Hour, "month2", 0, 9)];
        let next = plan(Resolution::Hour, 0, &month, &parts, None, &recorded, false).unwrap();
        assert_eq!(dirty(&next).ranges(), [(9, 9)]);
        assert!(next.removed.is_empty());
        let recorded = after(&recorded, &next);
        // Minutes expire. The hours stay; from then on the source is their own file.
        let parts = minute_sources(&minutes(&[(9, "b2")])).unwrap();
        let next = plan(Resolution::Hour, 0, &month, &parts, None, &recorded, false).unwrap();
        assert_eq!(dirty(&next).ranges(), [(0, 8)]);
        assert!(next.removed.is_empty() && next.obsolete.is_empty());
        let recorded = after(&recorded, &next);
        // Some minutes return, recomputed or from the archive. Dates in between without minutes keep their hours.
        let parts = minute_sources(&minutes(&[(0, "a3"), (9, "b2")])).unwrap();
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
        assert!(next.removed.is_empty() && next.obsolete.is_empty());
    }

    #[test]
    fn plan_full_covers_the_whole_window() {
        let files = minutes(&[(2, "b"), (4, "d")]);
        let parts = minute_sources(&files).unwrap();
        let first = plan(
            Resolution::Minute,
            1,
            &files,
            &parts,
            None,
            &DateSources::new(),
            false,
        )
        .unwrap();
        let recorded = after(&DateSources::new(), &first);
        let full = plan(Resolution::Minute, 1, &files, &parts, None, &recorded, true).unwrap();
        assert_eq!(dirty(&full).ranges(), [(2, 2), (4, 4)]);
        assert_eq!(full.removed.ranges(), [(1, 1), (3, 3), (5, MAX_DAY)]);
    }

    #[test]
    fn plan_for_other_columns_compares_all_dates() {
        let files = minutes(&[(1, "a"), (2, "b")]);
        let before = minute_sources(&files).unwrap();
        let schema = RollupSchema::with_test_columns();
        let mut sources = MinuteSources::new(&schema);
        sources.read(&files).unwrap();
        let next = |recorded| {
            plan(
                Resolution::Minute,
                0,
                &files,
                &sources,
                None,
                recorded,
                false,
            )
        };
        assert_eq!(dirty(&next(&before.dates).unwrap()).ranges(), [(1, 2)]);
        assert!(next(&sources.dates).unwrap().groups.is_empty());
    }

    #[test]
    fn plan_leaves_out_files_without_affected_rows() {
        let parts = minute_sources(&minutes(&[(0, "a"), (9, "b2")])).unwrap();
        let month = [
            file(Resolution::Hour, "begin", 0, 0),
            file(Resolution::Hour, "end", 9, 9),
        ];
        let recorded = minute_sources(&minutes(&[(0, "a"), (9, "b")])).unwrap();
        let recorded = recorded.dates;
        let next = plan(Resolution::Hour, 0, &month, &parts, None, &recorded, false).unwrap();
        assert_eq!(next.groups.len(), 1);
        assert_eq!(next.groups[0].files[0].path, "end");
    }

    proptest! {
        /// After any plan, the stored sources are those of the lake in the window.
        #[test]
        fn plan_makes_recorded_sources_equal_to_the_lake(
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
            let (old, new) = (minute_sources(&before).unwrap(), minute_sources(&now).unwrap());
            let first = plan(Resolution::Minute, starts.0, &before, &old, None, &DateSources::new(), false).unwrap();
            let recorded = after(&DateSources::new(), &first);
            let next = plan(Resolution::Minute, starts.1, &now, &new, None, &recorded, full).unwrap();
            let mut due = new.dates.clone();
            due.retain(|day, _| *day >= starts.1);
            prop_assert_eq!(after(&recorded, &next), due.clone());
            for day in starts.1..12 {
                let differs = full || recorded.get(&day) != due.get(&day);
                let is_touched = dirty(&next).contains(day) || next.removed.contains(day);
                prop_assert_eq!(differs, is_touched, "date {}", day);
                prop_assert!(!(dirty(&next).contains(day) && next.removed.contains(day)));
            }
        }
    }
}
