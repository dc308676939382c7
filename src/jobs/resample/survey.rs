//! Surveys new and changed files: their dates, whether they can be read, and whether they were restored from the
//! archive.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::attempt::{Attempt, DamagedFiles};
use super::inputs::{Input, raw_archive};
use super::job::{Job, MAX_TIME_MICROS};
use super::ledger::{KnownFile, Ledger};
use super::plan::{Changes, SurveyResults, names_by_path};
use crate::jobs::error::JobError;
use crate::lake::raw::archive_copy::{CopyError, sha256};
use crate::lake::raw::{RawFileError, RawFormat, survey};
use crate::model::Window;

/// The number of footers that are read concurrently.
const MAX_CONCURRENT_SURVEYS: usize = 16;

impl Job {
    /// Returns the format for surveys. It accepts times in the future: their dates stay due until they become
    /// plausible.
    pub(in crate::jobs) fn survey_format(&self, plausible: Window) -> RawFormat {
        self.format(Window {
            end: MAX_TIME_MICROS,
            ..plausible
        })
    }
}

impl Attempt<'_> {
    /// Surveys new and changed files, and for a full run also archived ones. A faulty file is put into quarantine. An
    /// error of the store fails the run.
    pub(in crate::jobs) async fn survey(
        &self,
        ledger: &Ledger,
        changes: &Changes,
        full: bool,
        damaged: &DamagedFiles,
    ) -> Result<SurveyResults, JobError> {
        let ahead = Arc::new(self.job.survey_format(self.plausible));
        let mut inputs: Vec<Input> = Vec::new();
        for file in &changes.fresh {
            inputs.push(Input {
                key: file.path.clone(),
                folder: self.job.raw.clone(),
                file: file.clone(),
            });
        }
        let archived = ledger.archived.iter();
        for (name, archived) in
            archived.filter(|(_, archived)| full && archived.file.quarantined.is_none())
        {
            inputs.push(Input {
                key: Ledger::archive_key(name),
                folder: raw_archive(&self.job.lake),
                file: archived.to_raw_file(name),
            });
        }
        let files: BTreeMap<String, KnownFile> = stream::iter(inputs)
            .map(|input| {
                let ahead = Arc::clone(&ahead);
                let damage = (input.key.clone(), input.file.etag.clone());
                let damage = damaged.get(&damage).cloned();
                async move { self.survey_file(input, &ahead, damage).await }
            })
            .buffer_unordered(MAX_CONCURRENT_SURVEYS)
            .try_filter_map(async |found| Ok(found))
            .try_collect()
            .await?;
        let came_back = self.find_restored(ledger, changes, &files).await?;
        Ok(SurveyResults {
            files,
            restored: came_back,
        })
    }

    /// Surveys one file. Returns `None` for an archived file that cannot be read now; its known properties are kept.
    async fn survey_file(
        &self,
        input: Input,
        ahead: &RawFormat,
        damage: Option<String>,
    ) -> Result<Option<(String, KnownFile)>, JobError> {
        let file = &input.file;
        let mut known = KnownFile {
            etag: file.etag.clone(),
            modified: file.modified,
            size: file.size,
            quarantined: damage,
            ..KnownFile::default()
        };
        if known.quarantined.is_some() {
            return Ok(Some((input.key, known)));
        }
        match survey(&input.folder, file, ahead).await {
            Ok(survey) => {
                let later = survey.last.is_some_and(|last| last >= self.plausible.end);
                known.last = survey.last;
                known.rows = survey.rows;
                known.minutes = survey.minutes;
                known.asset = survey.asset;
                known.untimed = survey.has_untimed || later;
                known.due = survey.dates.clone();
                known.dates = survey.dates;
            }
            Err(fault @ RawFileError::Store { .. }) => return Err(JobError::RawStore(fault)),
            // The dates of an archived file are computed in any case, and the fault is found then.
            Err(_) if Ledger::archive_name(&input.key).is_some() => return Ok(None),
            Err(fault) => {
                if matches!(fault, RawFileError::AccessDenied { .. }) {
                    // An empty etag matches no version, so the next run tries again.
                    known.etag.clear();
                }
                known.is_passed_over = matches!(fault, RawFileError::NotParquet { .. });
                known.quarantined = Some(fault.to_string());
            }
        }
        Ok(Some((input.key, known)))
    }

    /// Returns the fresh files that are identical, byte for byte, to a file that was archived from the same path, with
    /// their names in the archive.
    async fn find_restored(
        &self,
        ledger: &Ledger,
        changes: &Changes,
        surveyed: &BTreeMap<String, KnownFile>,
    ) -> Result<BTreeMap<String, String>, JobError> {
        let mut found = BTreeMap::new();
        let names = names_by_path(ledger);
        for file in &changes.fresh {
            let is_new = || {
                // In a full run, known files are fresh, too.
                let known = ledger.files.get(&file.path);
                known.is_none_or(|known| !known.is_version(file))
            };
            let is_good = || {
                let known = surveyed.get(&file.path);
                known.is_some_and(|known| known.quarantined.is_none())
            };
            let alike: Vec<_> = names.get(&file.path).into_iter().flatten().collect();
            if alike.is_empty() || !is_new() || !is_good() {
                continue;
            }
            let hash = match sha256(&self.job.raw, file).await {
                Ok(hash) => hash,
                // The run notices the change later and starts over.
                Err(CopyError::Changed { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let same = alike.into_iter().find(|name| {
                let archived = ledger.archived.get(*name);
                archived.is_some_and(|it| it.sha256 == hash && it.file.quarantined.is_none())
            });
            if let Some(name) = same {
                found.insert(file.path.clone(), name.clone());
            }
        }
        Ok(found)
    }
}
