//! Plans and writes the changes to tables: small files are merged, and expired rows are archived or deleted.

use std::collections::BTreeSet;

use super::compact::{self, FileGroup};
use super::maintenance_run::{MaintenanceChanges, MaintenanceRun};
use super::merge::{MergeSource, MergeTarget, merge};
use super::report::{CompactionReport, ExpiredData, ExpiryOutcome, MaintainReport};
use super::retention::{ArchiveChange, archive_changes, first_retained_day};
use crate::config::ExpiryAction;
use crate::jobs::error::JobError;
use crate::jobs::resample::report::DateSpan;
use crate::lake::delta::commit::Change;
use crate::lake::delta::partition::{DataFile, Partition};
use crate::lake::delta::table::Table;
use crate::model::{DateSet, Day, Resolution};

/// The changes to one table.
#[derive(Debug, Default)]
pub(super) struct TablePlan {
    /// The groups of small files to merge.
    groups: Vec<FileGroup>,
    /// The groups of small files in the archive to merge.
    archived_groups: Vec<FileGroup>,
    /// The partitions whose rows leave the table or change in the archive.
    archive_changes: Vec<ArchiveChange>,
}

impl TablePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.archived_groups.is_empty() && self.archive_changes.is_empty()
    }

    /// Whether any rows are moved to the archive.
    pub fn has_archive_changes(&self) -> bool {
        self.archive_changes
            .iter()
            .any(|it| it.action == ExpiryAction::Archive)
    }
}

/// Returns the dates of partitions.
pub(super) fn partition_dates<'a>(partitions: impl Iterator<Item = &'a Partition>) -> DateSet {
    let mut days = DateSet::default();
    for (first, last) in partitions.filter_map(Partition::days) {
        days.insert_range(first, last);
    }
    days
}

fn total_rows<'a>(files: impl Iterator<Item = &'a DataFile>) -> u64 {
    files.filter_map(|file| file.rows).sum()
}

impl MaintenanceRun<'_> {
    /// Returns the changes to the tables, finest first, and enters them into the report.
    pub fn plan_tables(&self, report: &mut MaintainReport) -> Vec<TablePlan> {
        let mut plans = Vec::new();
        for table in &self.tables {
            let resolution = table.resolution();
            let archived = self.archived_files(resolution);
            let shelved = archive_changes(
                table.files(),
                archived.clone(),
                self.job.settings.retention.for_resolution(resolution),
                &self.ledger.held_dates(resolution.table(), self.now),
                &self.ledger.recomputed,
                self.now,
            );
            report.expired.extend(expired_data(resolution, &shelved));
            let changing: BTreeSet<Partition> =
                shelved.iter().map(|it| it.partition.clone()).collect();
            let target = self.job.settings.maintain.target_file_size;
            let groups = compact::group_small_files(table.files(), target, &changing);
            report
                .compacted
                .extend(compaction_report(resolution.table(), &groups));
            let archived_groups = compact::group_small_files(archived, target, &changing);
            let name = format!("archive.{}", resolution.table());
            report
                .compacted
                .extend(compaction_report(&name, &archived_groups));
            plans.push(TablePlan {
                groups,
                archived_groups,
                archive_changes: shelved,
            });
        }
        plans
    }

    /// Returns the first date whose minutes have not expired, if any minutes expire now.
    pub fn minutes_from(&self, plans: &[TablePlan]) -> Option<Day> {
        let expire = plans.first().is_some_and(|minutes| {
            let live = minutes
                .archive_changes
                .iter()
                .filter(|it| !it.live.is_empty());
            live.count() > 0
        });
        let keep = self.job.settings.retention.minute.period;
        keep.filter(|_| expire)
            .map(|keep| first_retained_day(self.now, keep))
    }

    /// Writes the new files. `changes` contains the files that were written, even after an error.
    pub async fn write_tables(
        &mut self,
        plans: Vec<TablePlan>,
        changes: &mut MaintenanceChanges,
        report: &mut MaintainReport,
    ) -> Result<(), JobError> {
        let rows = plans.iter().map(|plan| {
            let groups = plan.groups.iter().chain(&plan.archived_groups).flatten();
            let shelved = plan
                .archive_changes
                .iter()
                .filter(|it| it.action == ExpiryAction::Archive);
            total_rows(groups)
                + total_rows(shelved.flat_map(|it| it.live.iter().chain(&it.archived)))
        });
        self.job.progress.expect(rows.sum());
        for (at, plan) in plans.into_iter().enumerate() {
            let change = &mut changes.tables[at];
            let table = &self.tables[at];
            self.compact(table, plan.groups, change).await?;
            record_merged_size(report, table.resolution().table(), change);
            for shelved in plan.archive_changes {
                if shelved.action == ExpiryAction::Archive {
                    self.write_to_archive(at, &shelved, &mut changes.archive[at])
                        .await?;
                }
                changes.tables[at].remove.extend(shelved.live);
            }
            if let Some(archive) = self.archive.get(at) {
                let change = &mut changes.archive[at];
                self.compact(archive, plan.archived_groups, change).await?;
                record_merged_size(
                    report,
                    &format!("archive.{}", archive.resolution().table()),
                    change,
                );
            }
        }
        Ok(())
    }

    async fn compact(
        &self,
        table: &Table,
        groups: Vec<FileGroup>,
        change: &mut Change,
    ) -> Result<(), JobError> {
        let progress = &self.job.progress;
        for group in groups {
            let Some(partition) = group.first().map(|file| file.partition.clone()) else {
                continue;
            };
            let target = MergeTarget {
                table,
                partition,
                file_size: u64::MAX,
                on_rows: &|rows| progress.read(rows),
            };
            let sources: Vec<_> = group
                .into_iter()
                .map(|file| MergeSource::new(table, file))
                .collect();
            merge(&sources, &target, &mut change.merged_into).await?;
            let merged = sources.into_iter().map(|source| source.file);
            change.merged.extend(merged);
        }
        Ok(())
    }

    /// Writes the rows of a partition into the archive: the rows of the table, and the archived rows of dates that were
    /// not computed again.
    async fn write_to_archive(
        &self,
        at: usize,
        it: &ArchiveChange,
        change: &mut Change,
    ) -> Result<(), JobError> {
        let progress = &self.job.progress;
        let target = MergeTarget {
            table: &self.archive[at],
            partition: it.partition.clone(),
            file_size: self.job.settings.maintain.target_file_size,
            on_rows: &|rows| progress.read(rows),
        };
        merge(&self.sources(at, it), &target, &mut change.add).await?;
        change.remove.extend(it.archived.iter().cloned());
        Ok(())
    }

    /// Returns all rows of a partition: the rows of the table, and the archived rows of dates that were not computed
    /// again.
    pub fn sources(&self, at: usize, it: &ArchiveChange) -> Vec<MergeSource<'_>> {
        let (table, archive) = (&self.tables[at], &self.archive[at]);
        let live = it.live.iter().cloned();
        let mut sources: Vec<_> = live.map(|file| MergeSource::new(table, file)).collect();
        let without = self.outdated_dates(it);
        sources.extend(it.archived.iter().map(|file| MergeSource {
            table: archive,
            file: file.clone(),
            without: without.clone(),
        }));
        sources
    }

    /// Returns the dates of a partition whose archived rows are replaced by the table's rows.
    pub fn outdated_dates(&self, it: &ArchiveChange) -> DateSet {
        match it.partition.days() {
            // The table has the partition's only date.
            Some((first, last)) if first == last && !it.live.is_empty() => {
                DateSet::range(first, last)
            }
            _ => self.ledger.recomputed.clone(),
        }
    }
}

impl<'a> MergeSource<'a> {
    /// Returns a source with all rows of a file.
    pub fn new(table: &'a Table, file: DataFile) -> Self {
        Self {
            table,
            file,
            without: DateSet::default(),
        }
    }
}

fn expired_data(resolution: Resolution, shelved: &[ArchiveChange]) -> Vec<ExpiredData> {
    let fates = [
        (ExpiryAction::Archive, ExpiryOutcome::Archived),
        (ExpiryAction::Delete, ExpiryOutcome::Deleted),
    ];
    let of = |(then, fate)| {
        let of_fate = || {
            shelved
                .iter()
                .filter(move |it| it.action == then && !it.live.is_empty())
        };
        let files = || of_fate().flat_map(|it| &it.live);
        ExpiredData {
            what: resolution.table().to_owned(),
            fate,
            dates: DateSpan::from(&partition_dates(of_fate().map(|it| &it.partition))),
            files: files().count(),
            rows: total_rows(files()),
            bytes: files().map(|file| file.size).sum(),
        }
    };
    let mut found: Vec<ExpiredData> = fates.into_iter().map(of).collect();
    found.retain(|expired| expired.files > 0);
    found
}

fn compaction_report(table: &str, groups: &[FileGroup]) -> Option<CompactionReport> {
    let files = || groups.iter().flatten();
    let partitions: BTreeSet<_> = files().map(|file| &file.partition).collect();
    (!groups.is_empty()).then(|| CompactionReport {
        table: table.to_owned(),
        partitions: partitions.len(),
        files_before: files().count(),
        files_after: groups.len(),
        rows: total_rows(files()),
        bytes_before: files().map(|file| file.size).sum(),
        bytes_after: None,
    })
}

/// Enters the size of the merged files into the report.
fn record_merged_size(report: &mut MaintainReport, table: &str, change: &Change) {
    let found = report.compacted.iter_mut().find(|it| it.table == table);
    if let Some(compacted) = found {
        let sizes = change.merged_into.iter().map(|file| file.size);
        compacted.bytes_after = Some(sizes.sum());
    }
}
