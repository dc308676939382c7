//! Restores rows and raw files from the archive to their former places.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info_span};

use super::maintenance_run::{MaintenanceChanges, MaintenanceRun};
use super::merge::{MergeTarget, merge};
use super::retention::{ArchiveChange, group_by_partition};
use super::tables::partition_dates;
use super::time::now;
use crate::clock::Stopwatch;
use crate::config::ExpiryAction;
use crate::jobs::error::JobError;
use crate::jobs::resample::inputs::raw_archive;
use crate::jobs::resample::job::Job;
use crate::jobs::resample::ledger::{ArchivedFile, Hold, KnownFile};
use crate::jobs::resample::report::DateSpan;
use crate::lake::delta::partition::Partition;
use crate::lake::raw::archive_copy::{CopyError, copy, find_file, sha256};
use crate::lake::records::lease::Lease;
use crate::lake::storage::failpoint;
use crate::model::{DateSet, Resolution};

/// A request to restore data.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The table; `None` for raw files.
    pub table: Option<Resolution>,
    /// The dates to restore.
    pub dates: DateSet,
    /// The time for which the restored data does not expire.
    pub hold: TimeDelta,
    /// Whether to report only, without changing anything.
    pub dry_run: bool,
}

/// The outcome of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// The data was restored.
    Restored,
    /// The archive has no data of these dates.
    NothingArchived,
    /// A dry run: nothing was changed.
    DryRun,
}

/// The report of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The run that published the restored data.
    pub run: Option<u64>,
    /// The outcome of the restore.
    pub outcome: RestoreOutcome,
    /// The name of the table, or `raw`.
    pub what: String,
    /// The restored dates: those of whole partitions or of whole raw files.
    pub dates: DateSpan,
    /// The number of files.
    pub files: usize,
    /// The number of rows or readings.
    pub rows: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// The time until which the restored data does not expire, RFC 3339.
    pub held_until: Option<String>,
    /// The raw files that were not restored.
    pub left_in_archive: Vec<NotRestored>,
    /// The duration in seconds.
    pub seconds: f64,
}

/// A raw file that was not restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRestored {
    /// The path that it had below the raw folder.
    pub path: String,
    /// The reason.
    pub reason: NotRestoredReason,
}

/// The reasons why a raw file was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRestoredReason {
    /// Another raw file has its path, or is restored to it.
    PathTaken,
    /// The archived file is missing, or is not the one that was archived.
    Damaged,
}

impl RestoreReport {
    /// Moves a file from the counts to the files left in the archive.
    fn mark_not_restored(&mut self, archived: &ArchivedFile, reason: NotRestoredReason) {
        self.files -= 1;
        self.rows -= archived.file.rows;
        self.bytes -= archived.file.size;
        self.left_in_archive.push(NotRestored {
            path: archived.path.clone(),
            reason,
        });
    }
}

impl Job {
    /// Restores the archived data of some dates.
    pub async fn restore(&self, restore: &RestoreRequest) -> Result<RestoreReport, JobError> {
        let watch = Stopwatch::start();
        let what = restore.table.map_or("raw", Resolution::table);
        let mut report = RestoreReport {
            run: None,
            outcome: RestoreOutcome::NothingArchived,
            what: what.to_owned(),
            dates: DateSpan::default(),
            files: 0,
            rows: 0,
            bytes: 0,
            held_until: None,
            left_in_archive: Vec::new(),
            seconds: 0.0,
        };
        self.with_lease("archive restore", restore.dry_run, async |lease| {
            self.restore_with_lease(lease, restore, &watch, &mut report)
                .await
        })
        .await?;
        report.seconds = watch.seconds();
        Ok(report)
    }

    async fn restore_with_lease(
        &self,
        lease: Option<&Lease>,
        restore: &RestoreRequest,
        watch: &Stopwatch,
        report: &mut RestoreReport,
    ) -> Result<(), JobError> {
        let now = now();
        let Some(mut round) = MaintenanceRun::open(self, lease, now).await? else {
            return Ok(());
        };
        match restore.table {
            Some(resolution) => {
                let found = round.archived_partitions(resolution, &restore.dates);
                round.count_archived(&found, report);
                if !found.is_empty() && !restore.dry_run {
                    let run = round.runs.next_run_number().await?;
                    round
                        .restore_table(run, resolution, found, restore.hold, watch, report)
                        .instrument(info_span!("restore", run))
                        .await?;
                }
            }
            None => {
                let found = round.restorable_raw(&restore.dates, report).await?;
                if !found.is_empty() && !restore.dry_run {
                    let run = round.runs.next_run_number().await?;
                    round
                        .restore_raw(run, found, restore.hold, watch, report)
                        .instrument(info_span!("restore", run))
                        .await?;
                }
            }
        }
        if restore.dry_run && report.files > 0 {
            report.outcome = RestoreOutcome::DryRun;
        }
        Ok(())
    }
}

impl MaintenanceRun<'_> {
    /// Returns the archive's partitions that contain one of `dates`, with the table's files of the same partitions.
    fn archived_partitions(&self, resolution: Resolution, dates: &DateSet) -> Vec<ArchiveChange> {
        let live = self.tables[resolution as usize].files();
        let partitions = group_by_partition(live, self.archived_files(resolution)).into_iter();
        let is_wanted = |partition: &Partition| {
            let days = partition.days();
            days.is_some_and(|(first, last)| DateSet::range(first, last).intersects(dates))
        };
        partitions
            .filter(|(partition, (_, archived))| !archived.is_empty() && is_wanted(partition))
            .map(|(partition, (live, archived))| ArchiveChange {
                partition,
                live,
                archived,
                action: ExpiryAction::Archive,
            })
            .collect()
    }

    fn count_archived(&self, found: &[ArchiveChange], report: &mut RestoreReport) {
        let files = || found.iter().flat_map(|it| &it.archived);
        report.files = files().count();
        report.rows = files().filter_map(|file| file.rows).sum();
        report.bytes = files().map(|file| file.size).sum();
        report.dates = DateSpan::from(&partition_dates(found.iter().map(|it| &it.partition)));
    }

    async fn restore_table(
        &mut self,
        run: u64,
        resolution: Resolution,
        found: Vec<ArchiveChange>,
        hold: TimeDelta,
        watch: &Stopwatch,
        report: &mut RestoreReport,
    ) -> Result<(), JobError> {
        self.adopt_columns(true)?;
        self.write_intent(run).await?;
        self.job.progress.expect(report.rows);
        let at = resolution as usize;
        let mut changes = MaintenanceChanges::default();
        for it in &found {
            let written = self.write_back(at, it, &mut changes).await;
            if let Err(error) = written {
                self.discard(&changes).await;
                return Err(error);
            }
        }
        let days = partition_dates(found.iter().map(|it| &it.partition));
        let until = self.add_hold(resolution.table(), days, hold);
        complete_report(report, run, until, watch);
        let record = || report.clone();
        self.publish(run, changes, None, record).await
    }

    /// Writes the archived rows of a partition back into the table, together with the rows that the table has by now.
    async fn write_back(
        &self,
        at: usize,
        it: &ArchiveChange,
        changes: &mut MaintenanceChanges,
    ) -> Result<(), JobError> {
        let progress = &self.job.progress;
        let target = MergeTarget {
            table: &self.tables[at],
            partition: it.partition.clone(),
            file_size: self.job.settings.maintain.target_file_size,
            on_rows: &|rows| progress.read(rows),
        };
        let change = &mut changes.tables[at];
        merge(&self.sources(at, it), &target, &mut change.add).await?;
        change.remove.extend(it.live.iter().cloned());
        let archived = &mut changes.archive[at].remove;
        archived.extend(it.archived.iter().cloned());
        Ok(())
    }

    /// Returns the names in the archive of raw files that have one of `dates` and can be restored. Enters the files
    /// into the report.
    async fn restorable_raw(
        &self,
        dates: &DateSet,
        report: &mut RestoreReport,
    ) -> Result<Vec<String>, JobError> {
        let mut names = Vec::new();
        let mut paths = BTreeSet::new();
        let mut all = DateSet::default();
        for (name, archived) in &self.ledger.archived {
            if !archived.file.dates.intersects(dates) || archived.file.quarantined.is_some() {
                continue;
            }
            report.files += 1;
            report.rows += archived.file.rows;
            report.bytes += archived.file.size;
            // If two archived files have the same path, only one can be restored.
            if paths.contains(&archived.path) || !self.is_path_free(archived).await? {
                report.mark_not_restored(archived, NotRestoredReason::PathTaken);
                continue;
            }
            paths.insert(archived.path.clone());
            all.extend(&archived.file.dates);
            names.push(name.clone());
        }
        report.dates = DateSpan::from(&all);
        Ok(names)
    }

    /// Whether the file's path is free, or taken only by the file itself: it has not been deleted yet, or a restore
    /// that crashed wrote it.
    async fn is_path_free(&self, archived: &ArchivedFile) -> Result<bool, JobError> {
        let Some(there) = find_file(&self.job.raw, &archived.path).await? else {
            return Ok(true);
        };
        let leaving = self.ledger.leaving.get(&archived.path);
        Ok(leaving.is_some_and(|leaving| leaving.is_version(&there))
            || (there.size == archived.file.size
                && sha256(&self.job.raw, &there).await? == archived.sha256))
    }

    async fn restore_raw(
        &mut self,
        run: u64,
        names: Vec<String>,
        hold: TimeDelta,
        watch: &Stopwatch,
        report: &mut RestoreReport,
    ) -> Result<(), JobError> {
        self.write_intent(run).await?;
        self.job.progress.expect(names.len() as u64);
        let archive = raw_archive(&self.job.lake);
        let mut days = DateSet::default();
        for name in names {
            let Some(archived) = self.ledger.archived.get(&name) else {
                continue;
            };
            // Checked again, because restoring the other files may have taken a while.
            if !self.is_path_free(archived).await? {
                report.mark_not_restored(archived, NotRestoredReason::PathTaken);
                continue;
            }
            let (stored, path) = (archived.to_raw_file(&name), &archived.path);
            let sha256 = Some(archived.sha256.as_str());
            let back = match copy(&archive, &stored, &self.job.raw, path, sha256).await {
                Ok((back, _)) => back,
                Err(CopyError::Changed { .. }) => {
                    report.mark_not_restored(archived, NotRestoredReason::Damaged);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            failpoint::reach("after-raw-copy");
            self.job.progress.read(1);
            let Some(archived) = self.ledger.archived.remove(&name) else {
                continue;
            };
            days.extend(&archived.file.dates);
            self.ledger.leaving.remove(&archived.path);
            self.ledger.unarchived.insert(name);
            let known = KnownFile {
                ranks_as: Some(archived.file.precedence()),
                etag: back.etag,
                modified: back.modified,
                ..archived.file
            };
            // A file at this path that was averaged, and deleted since the last run, is not seen as removed any more.
            if let Some(removed) = self.ledger.files.insert(archived.path, known) {
                self.ledger.due.extend(&removed.dates);
            }
        }
        report.dates = DateSpan::from(&days);
        if report.files == 0 {
            return Ok(());
        }
        let until = self.add_hold("raw", days, hold);
        complete_report(report, run, until, watch);
        let record = || report.clone();
        self.publish(run, MaintenanceChanges::default(), None, record)
            .await
    }

    fn add_hold(&mut self, what: &str, dates: DateSet, hold: TimeDelta) -> DateTime<Utc> {
        let until = self.now.checked_add_signed(hold);
        let until = until.unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.ledger.holds.push(Hold {
            what: what.to_owned(),
            dates,
            until,
        });
        until
    }
}

fn complete_report(report: &mut RestoreReport, run: u64, until: DateTime<Utc>, watch: &Stopwatch) {
    report.run = Some(run);
    report.outcome = RestoreOutcome::Restored;
    report.held_until = Some(until.to_rfc3339_opts(SecondsFormat::Secs, true));
    report.seconds = watch.seconds();
}
