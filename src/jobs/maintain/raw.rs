//! Expires raw files: they are copied into the archive, or their dates are sealed. Once that is published, they are no
//! longer raw files. The files themselves stay for the grace period, for readers that use them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::maintenance_run::MaintenanceRun;
use super::report::{ExpiredData, ExpiryOutcome, MaintainReport};
use super::retention::expired_raw_files;
use crate::config::ExpiryAction;
use crate::jobs::error::JobError;
use crate::jobs::resample::inputs::raw_archive;
use crate::jobs::resample::ledger::{ArchivedFile, ExpiredRawFile};
use crate::jobs::resample::plan::{Changes, compare};
use crate::jobs::resample::report::DateSpan;
use crate::lake::raw::archive_copy::{CopyError, copy, find_file};
use crate::lake::raw::{RawFile, Survey, list_raw_files, survey};
use crate::lake::storage::failpoint;
use crate::model::DateSet;

/// The number of files that are copied concurrently.
const MAX_CONCURRENT_COPIES: usize = 4;
/// The number of footers that are read concurrently.
const MAX_CONCURRENT_SURVEYS: usize = 16;

/// Returns the name of a file in the archive: its path and its version.
fn archive_name(file: &RawFile) -> String {
    format!("{}.{}-{}.parquet", file.path, file.modified, file.size)
}

impl MaintenanceRun<'_> {
    /// Returns the raw files that have expired, and enters them into the report.
    pub async fn plan_raw(
        &mut self,
        report: &mut MaintainReport,
    ) -> Result<Vec<RawFile>, JobError> {
        let rule = self.job.settings.retention.raw;
        if rule.period.is_none() && self.ledger.leaving.is_empty() {
            return Ok(Vec::new());
        }
        let listed = list_raw_files(&self.job.raw).await?;
        let changes = compare(&self.ledger, &listed, false);
        for path in &changes.deleted_expired {
            self.ledger.leaving.remove(path);
        }
        let Some(keep) = rule.period else {
            return Ok(Vec::new());
        };
        if self.ledger.settings != self.job.fingerprint() {
            report.notes.push(
                "raw files were not expired: the settings of `plantlake resample` have changed since its last run. Run it \
                 first; it reads all raw files again"
                    .to_owned(),
            );
            return Ok(Vec::new());
        }
        let mut untouchable = self.ledger.held_dates("raw", self.now);
        untouchable.extend(&self.pending_dates(&changes).await);
        let expired = expired_raw_files(&listed, &self.ledger, keep, &untouchable, self.now);
        if !expired.is_empty() {
            let known = || {
                let known = expired.iter();
                known.filter_map(|file| self.ledger.files.get(&file.path))
            };
            let mut dates = DateSet::default();
            known().for_each(|known| dates.extend(&known.dates));
            report.expired.push(ExpiredData {
                what: "raw".to_owned(),
                fate: match rule.action {
                    ExpiryAction::Archive => ExpiryOutcome::Archived,
                    ExpiryAction::Delete => ExpiryOutcome::Deleted,
                },
                dates: DateSpan::from(&dates),
                files: expired.len(),
                rows: known().map(|known| known.rows).sum(),
                bytes: known().map(|known| known.size).sum(),
            });
        }
        Ok(expired)
    }

    /// Removes names from `unarchived` whose files no longer exist in the archive.
    pub async fn prune_unarchived(&mut self) -> Result<(), JobError> {
        let archive = raw_archive(&self.job.lake);
        for name in std::mem::take(&mut self.ledger.unarchived) {
            if find_file(&archive, &name).await?.is_some() {
                self.ledger.unarchived.insert(name);
            }
        }
        Ok(())
    }

    /// Returns the dates whose averages do not match the raw folder yet. Until they do, no file of these dates may
    /// expire, and the dates must not be sealed.
    async fn pending_dates(&self, changes: &Changes) -> DateSet {
        let mut dates = self.ledger.due.clone();
        dates.extend(&self.unfinished);
        for file in self.ledger.all_files() {
            dates.extend(&file.due);
        }
        let changed = changes.fresh.iter().map(|file| &file.path);
        for known in changed.chain(&changes.removed) {
            if let Some(known) = self.ledger.files.get(known) {
                dates.extend(&known.dates);
            }
        }
        let format = Arc::new(self.job.survey_format(self.job.plausible()));
        let surveys = stream::iter(changes.fresh.clone()).map(|file| {
            let (raw, format) = (self.job.raw.clone(), Arc::clone(&format));
            // A file that cannot be read is left to the resample job, which puts it into quarantine.
            async move { survey(&raw, &file, &format).await.ok() }
        });
        let surveys: Vec<Option<Survey>> = surveys
            .buffer_unordered(MAX_CONCURRENT_SURVEYS)
            .collect()
            .await;
        let readable = surveys.into_iter().flatten();
        readable.for_each(|survey| dates.extend(&survey.dates));
        dates
    }

    /// Removes damaged archived files, whose dates are sealed, from the ledger. Returns whether there were any.
    pub fn remove_damaged(&mut self, report: &mut MaintainReport) -> bool {
        let before = self.ledger.archived.len();
        self.ledger.archived.retain(|name, archived| {
            let is_damaged = archived.file.quarantined.is_some();
            if is_damaged {
                let (path, dates) = (&archived.path, &archived.file.dates);
                report.notes.push(format!(
                    "archive/raw/{name} (formerly {path}) is damaged, and its record was removed; its dates are sealed: {dates}"
                ));
            }
            !is_damaged
        });
        self.ledger.archived.len() < before
    }

    /// Copies expired files into the archive or seals their dates, and removes them from the ledger's raw files.
    pub async fn expire_raw(&mut self, expired: Vec<RawFile>) -> Result<(), JobError> {
        let then = self.job.settings.retention.raw.action;
        let retired = stream::iter(expired).map(|file| {
            let (raw, archive) = (self.job.raw.clone(), raw_archive(&self.job.lake));
            async move {
                let name = archive_name(&file);
                let sha256 = match then {
                    ExpiryAction::Delete => None,
                    ExpiryAction::Archive => {
                        Some(copy(&raw, &file, &archive, &name, None).await?.1)
                    }
                };
                Ok::<_, CopyError>((file, name, sha256))
            }
        });
        let mut retired = retired.buffered(MAX_CONCURRENT_COPIES);
        while let Some((file, name, sha256)) = retired.try_next().await? {
            let Some(known) = self.ledger.files.remove(&file.path) else {
                continue;
            };
            match sha256 {
                None => self.ledger.sealed.extend(&known.dates),
                Some(sha256) => {
                    failpoint::reach("after-raw-copy");
                    let archived = ArchivedFile {
                        path: file.path.clone(),
                        file: known,
                        sha256,
                        archived_at: self.now,
                    };
                    // The file may have been archived before, restored, and expired again.
                    self.ledger.unarchived.remove(&name);
                    self.ledger.archived.insert(name, archived);
                }
            }
            let leaving = ExpiredRawFile {
                etag: file.etag,
                modified: file.modified,
                size: file.size,
                since: self.now,
            };
            self.ledger.leaving.insert(file.path, leaving);
        }
        Ok(())
    }
}
