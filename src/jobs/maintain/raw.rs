//! Expires raw files: they are copied into the archive, or their dates are sealed. Once that is published, they are no
//! longer raw files. The files themselves stay for the grace period, for readers that use them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::super::inputs::archive_of_raw;
use super::super::ledger::{ArchivedFile, Leaving};
use super::super::plan::{Changes, compare};
use super::super::report::DateSpan;
use super::super::resample::JobError;
use super::report::{Expired, Fate, MaintainReport};
use super::retention::expired_raw;
use super::round::Round;
use crate::config::Then;
use crate::lake::failpoint;
use crate::lake::raw::shelf::{CopyError, copy, look};
use crate::lake::raw::{RawFile, Survey, list, survey};
use crate::model::DateSet;

/// The number of files that are copied concurrently.
const COPIES_AT_ONCE: usize = 4;
/// The number of footers that are read concurrently.
const SURVEYS_AT_ONCE: usize = 16;

/// Returns the name of a file in the archive: its path and its version.
fn archive_name(file: &RawFile) -> String {
    format!("{}.{}-{}.parquet", file.path, file.modified, file.size)
}

impl Round<'_> {
    /// Returns the raw files that have expired, and enters them into the report.
    pub async fn plan_raw(
        &mut self,
        report: &mut MaintainReport,
    ) -> Result<Vec<RawFile>, JobError> {
        let rule = self.job.settings.retention.raw;
        if rule.keep.is_none() && self.ledger.leaving.is_empty() {
            return Ok(Vec::new());
        }
        let listed = list(&self.job.raw).await?;
        let changes = compare(&self.ledger, &listed, false);
        for path in &changes.left {
            self.ledger.leaving.remove(path);
        }
        let Some(keep) = rule.keep else {
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
        let mut untouchable = self.ledger.held("raw", self.now);
        untouchable.extend(&self.unsettled(&changes).await);
        let expired = expired_raw(&listed, &self.ledger, keep, &untouchable, self.now);
        if !expired.is_empty() {
            let known = || {
                let known = expired.iter();
                known.filter_map(|file| self.ledger.files.get(&file.path))
            };
            let mut dates = DateSet::default();
            known().for_each(|known| dates.extend(&known.dates));
            report.expired.push(Expired {
                what: "raw".to_owned(),
                fate: match rule.then {
                    Then::Archive => Fate::Archived,
                    Then::Delete => Fate::Deleted,
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
    pub async fn forget_unarchived(&mut self) -> Result<(), JobError> {
        let archive = archive_of_raw(&self.job.lake);
        for name in std::mem::take(&mut self.ledger.unarchived) {
            if look(&archive, &name).await?.is_some() {
                self.ledger.unarchived.insert(name);
            }
        }
        Ok(())
    }

    /// Returns the dates whose averages do not match the raw folder yet. Until they do, no file of these dates may
    /// expire, and the dates must not be sealed.
    async fn unsettled(&self, changes: &Changes) -> DateSet {
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
        let format = Arc::new(self.job.format_ahead(self.job.plausible()));
        let surveys = stream::iter(changes.fresh.clone()).map(|file| {
            let (raw, format) = (self.job.raw.clone(), Arc::clone(&format));
            // A file that cannot be read is left to the resample job, which puts it into quarantine.
            async move { survey(&raw, &file, &format).await.ok() }
        });
        let surveys: Vec<Option<Survey>> =
            surveys.buffer_unordered(SURVEYS_AT_ONCE).collect().await;
        let readable = surveys.into_iter().flatten();
        readable.for_each(|survey| dates.extend(&survey.dates));
        dates
    }

    /// Removes damaged archived files, whose dates are sealed, from the ledger. Returns whether there were any.
    pub fn forget_damaged(&mut self, report: &mut MaintainReport) -> bool {
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
    pub async fn retire_raw(&mut self, expired: Vec<RawFile>) -> Result<(), JobError> {
        let then = self.job.settings.retention.raw.then;
        let retired = stream::iter(expired).map(|file| {
            let (raw, archive) = (self.job.raw.clone(), archive_of_raw(&self.job.lake));
            async move {
                let name = archive_name(&file);
                let sha256 = match then {
                    Then::Delete => None,
                    Then::Archive => Some(copy(&raw, &file, &archive, &name, None).await?.1),
                };
                Ok::<_, CopyError>((file, name, sha256))
            }
        });
        let mut retired = retired.buffered(COPIES_AT_ONCE);
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
            let leaving = Leaving {
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
