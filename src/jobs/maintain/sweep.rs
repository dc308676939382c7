//! Deletes what is no longer needed: data files of versions that were replaced longer ago than the grace period, files
//! of runs that crashed, expired raw files, old log files, and records of old runs. Also writes checkpoints.

use chrono::{DateTime, TimeDelta, Utc};

use super::maintenance_run::table_archive;
use super::report::SweepReport;
use crate::jobs::error::{JobError, table_error};
use crate::jobs::resample::inputs::raw_archive;
use crate::jobs::resample::job::Job;
use crate::jobs::resample::ledger::Ledger;
use crate::jobs::resample::plan::names_by_path;
use crate::jobs::resample::publish::MAX_KEPT_RUNS;
use crate::lake::Store;
use crate::lake::delta::table::Table;
use crate::lake::raw::archive_copy::{delete, find_file};
use crate::lake::records::lease::{Lease, LeaseError};
use crate::lake::records::runs::{Publication, Runs};
use crate::lake::storage::failpoint;
use crate::model::Resolution;

/// The time for which log files are kept. 30 days is the default of Delta tables.
const LOG_RETENTION: TimeDelta = TimeDelta::days(30);

/// The state of a sweep.
pub(super) struct Sweep<'a> {
    pub job: &'a Job,
    pub lease: Option<&'a Lease>,
    pub runs: &'a Runs,
    /// The published ledger.
    pub ledger: &'a Ledger,
    pub now: DateTime<Utc>,
    /// The start of the grace period. Files that readers which started later may use are kept.
    pub since: DateTime<Utc>,
    /// Whether to report only, without deleting anything.
    pub dry_run: bool,
}

impl Sweep<'_> {
    /// Deletes what is no longer needed. Must be called after the publication.
    pub async fn run(&self) -> Result<SweepReport, JobError> {
        let mut swept = SweepReport::default();
        let in_use = self.runs.publications_in_use(self.since).await?;
        let (Some(oldest), Some(latest)) = (in_use.first(), in_use.last()) else {
            return Ok(swept);
        };
        let lake = &self.job.lake;
        let archive = table_archive(lake);
        for resolution in Resolution::ALL {
            let version = oldest.versions.get(resolution);
            self.sweep_table(lake, resolution, version, &mut swept)
                .await?;
            if latest.archive.is_some() {
                let version = archived_version(oldest, resolution);
                self.sweep_table(&archive, resolution, version, &mut swept)
                    .await?;
            }
        }
        if !self.dry_run {
            self.runs.clean_up(MAX_KEPT_RUNS, self.since).await?;
            failpoint::reach("after-cleanup");
        }
        // Raw files come last, because this program may lack the permission to delete them.
        self.sweep_raw(&mut swept).await?;
        Ok(swept)
    }

    /// Deletes expired raw files after the grace period, and archived files that are no longer needed.
    async fn sweep_raw(&self, swept: &mut SweepReport) -> Result<(), JobError> {
        let (raw, archive) = (&self.job.raw, raw_archive(&self.job.lake));
        let archived = names_by_path(self.ledger);
        for (path, leaving) in &self.ledger.leaving {
            if leaving.since > self.since {
                continue;
            }
            // Another version at this path is a different file.
            let there = find_file(raw, path).await?;
            let Some(file) = there.filter(|file| leaving.is_version(file)) else {
                continue;
            };
            // The archived copy must exist, because this may be the last copy otherwise.
            for name in archived.get(path).into_iter().flatten() {
                find_file(&archive, name)
                    .await?
                    .ok_or_else(|| JobError::MissingArchiveCopy {
                        file: format!("{archive}/{name}"),
                        path: path.clone(),
                    })?;
            }
            swept.raw_files += 1;
            swept.bytes += file.size;
            if !self.dry_run {
                self.check_lease()?;
                delete(raw, path).await?;
                failpoint::reach("after-swept-raw");
            }
        }
        for name in &self.ledger.unarchived {
            let Some(file) = find_file(&archive, name).await? else {
                continue;
            };
            swept.raw_files += 1;
            swept.bytes += file.size;
            if !self.dry_run {
                self.check_lease()?;
                delete(&archive, name).await?;
                failpoint::reach("after-swept-archive");
            }
        }
        Ok(())
    }

    /// Fails if the lease was lost, because another run may need the files by now.
    fn check_lease(&self) -> Result<(), LeaseError> {
        self.lease.map_or(Ok(()), Lease::check)
    }

    async fn sweep_table(
        &self,
        lake: &Store,
        resolution: Resolution,
        oldest: u64,
        swept: &mut SweepReport,
    ) -> Result<(), JobError> {
        let failed = table_error(resolution);
        let table = Table::open_or_create(lake, &self.job.schema, resolution).await;
        let table = table.map_err(&failed)?;
        let named = table
            .referenced_files_since(oldest)
            .await
            .map_err(&failed)?;
        for file in table.stored_files().await.map_err(&failed)? {
            // An unreferenced file may belong to a commit of another program that is still in progress.
            if named.contains(&file.path) || file.modified >= self.since {
                continue;
            }
            swept.data_files += 1;
            swept.bytes += file.size;
            if !self.dry_run {
                self.check_lease()?;
                table.delete_stored(&file).await.map_err(&failed)?;
                failpoint::reach("after-swept-file");
            }
        }
        if self.dry_run {
            return Ok(());
        }
        if table.ensure_checkpoint().await.map_err(&failed)? {
            swept.checkpoints += 1;
            failpoint::reach("after-checkpoint");
        }
        let before = self.now - LOG_RETENTION;
        swept.log_files += table.clean_up_log(oldest, before).await.map_err(&failed)?;
        Ok(())
    }
}

/// Returns the version of the archive's table in a publication: 0, an empty table, before anything was archived.
fn archived_version(publication: &Publication, resolution: Resolution) -> u64 {
    let archive = publication.archive;
    archive.map_or(0, |versions| versions.get(resolution))
}
