//! Selects expired data and the action on it. Pure: no I/O.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::{ExpiryAction, Retention};
use crate::jobs::resample::ledger::Ledger;
use crate::lake::delta::partition::{DataFile, Partition};
use crate::lake::raw::RawFile;
use crate::model::{DateSet, Day, day_of};

/// Returns the first date that has not expired.
pub(super) fn first_retained_day(now: DateTime<Utc>, keep: TimeDelta) -> Day {
    let start = now.checked_sub_signed(keep);
    start.map_or(Day::MIN, |start| day_of(start.timestamp_micros()))
}

/// A partition whose rows leave the table, or whose archived rows change.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ArchiveChange {
    pub partition: Partition,
    /// The files in the table, all of which are removed.
    pub live: Vec<DataFile>,
    /// The files in the archive. Their rows are kept, except those of dates that were computed again.
    pub archived: Vec<DataFile>,
    /// The action on the rows.
    pub action: ExpiryAction,
}

/// The files of a partition in the table, and those in the archive.
pub(super) type FileLocations = (Vec<DataFile>, Vec<DataFile>);

/// Groups the files of a table and of its archive by partition.
pub(super) fn group_by_partition(
    files: Vec<DataFile>,
    archived: Vec<DataFile>,
) -> BTreeMap<Partition, FileLocations> {
    let mut partitions: BTreeMap<Partition, FileLocations> = BTreeMap::new();
    for file in files {
        let partition = partitions.entry(file.partition.clone()).or_default();
        partition.0.push(file);
    }
    for file in archived {
        let partition = partitions.entry(file.partition.clone()).or_default();
        partition.1.push(file);
    }
    partitions
}

/// Returns the partitions of a table that have expired or whose archived rows are outdated.
pub(super) fn archive_changes(
    files: Vec<DataFile>,
    archived: Vec<DataFile>,
    rule: Retention,
    held: &DateSet,
    recomputed: &DateSet,
    now: DateTime<Utc>,
) -> Vec<ArchiveChange> {
    let first_kept = rule.period.map(|keep| first_retained_day(now, keep));
    let mut found = Vec::new();
    for (partition, (live, archived)) in group_by_partition(files, archived) {
        // Another program wrote the partition, and its dates are unknown.
        let Some((first, last)) = partition.days() else {
            continue;
        };
        let days = DateSet::range(first, last);
        let is_expired =
            first_kept.is_some_and(|first_kept| last < first_kept) && !held.intersects(&days);
        if is_expired && !live.is_empty() {
            found.push(ArchiveChange {
                // A partition with archived rows stays in the archive and is updated there.
                action: match archived.is_empty() {
                    true => rule.action,
                    false => ExpiryAction::Archive,
                },
                partition,
                live,
                archived,
            });
        } else if !archived.is_empty() && days.intersects(recomputed) {
            // The table keeps the rows that were computed again, if there are any.
            found.push(ArchiveChange {
                partition,
                live: Vec::new(),
                archived,
                action: ExpiryAction::Archive,
            });
        }
    }
    found
}

/// Returns the raw files that have expired: all their dates have expired, nothing is due of them, and they are the
/// versions that were published. No file with a date in `untouchable` is returned.
pub(super) fn expired_raw_files(
    listed: &[RawFile],
    ledger: &Ledger,
    keep: TimeDelta,
    untouchable: &DateSet,
    now: DateTime<Utc>,
) -> Vec<RawFile> {
    let first_kept = first_retained_day(now, keep);
    let is_expired = |file: &&RawFile| {
        let known = ledger.files.get(&file.path);
        known.is_some_and(|known| {
            let last = known.dates.last();
            let last = last.unwrap_or_else(|| day_of(file.modified / 1_000));
            known.is_version(file)
                && known.quarantined.is_none()
                && known.due.is_empty()
                && !known.untimed
                && last < first_kept
                && !known.dates.intersects(untouchable)
        })
    };
    listed.iter().filter(is_expired).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::resample::ledger::KnownFile;
    use crate::model::{MICROS_PER_DAY, Resolution};

    fn at(day: Day) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(i64::from(day) * MICROS_PER_DAY + 3_600_000_000).unwrap()
    }

    fn file(resolution: Resolution, name: &str, day: Day) -> DataFile {
        DataFile {
            path: name.to_owned(),
            size: 1,
            rows: Some(1),
            partition: Partition::containing(resolution, day),
            min_time: None,
            max_time: None,
            min_asset: None,
            max_asset: None,
        }
    }

    fn rule(days: i64, then: ExpiryAction) -> Retention {
        Retention {
            period: Some(TimeDelta::days(days)),
            action: then,
        }
    }

    fn names(found: &[ArchiveChange]) -> Vec<(String, ExpiryAction)> {
        let name = |it: &ArchiveChange| (it.partition.as_str().to_owned(), it.action);
        found.iter().map(name).collect()
    }

    #[test]
    fn partition_expires_with_its_last_date() {
        let none = DateSet::default();
        let minutes = vec![
            file(Resolution::Minute, "a", 10),
            file(Resolution::Minute, "b", 11),
        ];
        let minutes = archive_changes(
            minutes,
            vec![],
            rule(2, ExpiryAction::Delete),
            &none,
            &none,
            at(13),
        );
        assert_eq!(
            names(&minutes),
            [("1970-01-11".to_owned(), ExpiryAction::Delete)]
        );
        let hours = vec![file(Resolution::Hour, "a", 10)];
        let of = |day| {
            archive_changes(
                hours.clone(),
                vec![],
                rule(2, ExpiryAction::Archive),
                &none,
                &none,
                at(day),
            )
        };
        assert_eq!(of(32), []);
        assert_eq!(
            names(&of(33)),
            [("1970-01".to_owned(), ExpiryAction::Archive)]
        );
        let held = DateSet::range(5, 5);
        assert_eq!(
            archive_changes(
                hours,
                vec![],
                rule(2, ExpiryAction::Archive),
                &held,
                &none,
                at(99)
            ),
            []
        );
    }

    #[test]
    fn partition_in_archive_is_updated_in_archive() {
        let none = DateSet::default();
        let live = vec![file(Resolution::Hour, "a", 10)];
        let archived = vec![
            file(Resolution::Hour, "z", 10),
            file(Resolution::Hour, "y", 40),
        ];
        let merged = archive_changes(
            live,
            archived.clone(),
            rule(2, ExpiryAction::Delete),
            &none,
            &none,
            at(99),
        );
        assert_eq!(
            names(&merged),
            [("1970-01".to_owned(), ExpiryAction::Archive)]
        );
        // A date was computed again. The table has no rows of it, or rows that do not expire.
        let recomputed = DateSet::range(41, 41);
        let kept = Retention {
            period: None,
            action: ExpiryAction::Archive,
        };
        let gone = archive_changes(vec![], archived, kept, &none, &recomputed, at(99));
        assert_eq!(
            names(&gone),
            [("1970-02".to_owned(), ExpiryAction::Archive)]
        );
        let live = vec![file(Resolution::Hour, "b", 41)];
        let archived = vec![file(Resolution::Hour, "y", 40)];
        let stays = archive_changes(live, archived, kept, &none, &recomputed, at(99));
        assert_eq!(
            names(&stays),
            [("1970-02".to_owned(), ExpiryAction::Archive)]
        );
        assert_eq!(stays[0].live, []);
    }

    #[test]
    fn raw_file_without_due_dates_expires_with_its_last_date() {
        let listed = |path: &str| RawFile {
            path: path.to_owned(),
            etag: "1".to_owned(),
            size: 1,
            modified: 1,
            fault: None,
        };
        let known = |first, last| KnownFile {
            etag: "1".to_owned(),
            modified: 1,
            size: 1,
            dates: DateSet::range(first, last),
            ..KnownFile::default()
        };
        let mut ledger = Ledger::default();
        ledger.files.insert("old".to_owned(), known(1, 4));
        ledger.files.insert("spans".to_owned(), known(1, 5));
        let changed = KnownFile {
            etag: "2".to_owned(),
            ..known(1, 1)
        };
        ledger.files.insert("changed".to_owned(), changed);
        let due = KnownFile {
            due: DateSet::range(1, 1),
            ..known(1, 1)
        };
        ledger.files.insert("due".to_owned(), due);
        let broken = KnownFile {
            quarantined: Some("?".to_owned()),
            ..known(1, 1)
        };
        ledger.files.insert("broken".to_owned(), broken);
        let files = ["old", "spans", "changed", "due", "broken", "new"].map(listed);
        let expired = |untouchable: &DateSet| {
            let found = expired_raw_files(&files, &ledger, TimeDelta::days(2), untouchable, at(7));
            found.into_iter().map(|file| file.path).collect::<Vec<_>>()
        };
        assert_eq!(expired(&DateSet::default()), ["old"]);
        assert_eq!(expired(&DateSet::range(3, 3)), Vec::<String>::new());
    }
}
