//! One attempt of a run: compares the raw files with the ledger, plans the dates to compute, and publishes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::{Instrument, info_span};

use super::inputs::{Input, raw_archive};
use super::job::{Job, Options};
use super::ledger::Ledger;
use super::plan::{Changes, Scope, compare, plan};
use super::report::{FileCounts, Outcome, Report};
use crate::clock::Stopwatch;
use crate::jobs::error::{JobError, table_error};
use crate::lake::delta::error::TableError;
use crate::lake::delta::table::Table;
use crate::lake::raw::archive_copy::has_files;
use crate::lake::raw::{PassedOver, RawFile, RawFormat, check_known_files, list_raw_folder};
use crate::lake::records::lease::Lease;
use crate::lake::records::runs::{Publication, Runs};
use crate::model::{DateSet, Resolution, Window};

/// The files that turned out to be damaged: the reasons by the file's key and etag.
pub(in crate::jobs) type DamagedFiles = BTreeMap<(String, String), String>;

/// The start of a run, which all its attempts share.
pub(in crate::jobs) struct RunStart<'a> {
    /// The options of the run.
    pub options: &'a Options,
    /// The lease; `None` for a dry run.
    pub lease: Option<&'a Lease>,
    /// The stopwatch that measures the duration of the run.
    pub watch: Stopwatch,
    /// The time at which the run began.
    pub started_at: DateTime<Utc>,
}

/// The state of one attempt of a run.
pub(in crate::jobs) struct Attempt<'a> {
    pub(in crate::jobs) job: &'a Job,
    pub(in crate::jobs) start: &'a RunStart<'a>,
    pub(in crate::jobs) runs: Runs,
    pub(in crate::jobs) format: Arc<RawFormat>,
    pub(in crate::jobs) plausible: Window,
    pub(in crate::jobs) listed: Vec<RawFile>,
    passed_over: PassedOver,
    /// The tables whose published version does not exist.
    pub(in crate::jobs) lost: Vec<Resolution>,
}

/// The outcome of an attempt.
pub(in crate::jobs) enum AttemptOutcome {
    Done(Box<Report>),
    /// A file changed, or turned out to be damaged after other results were computed with it.
    Restart,
}

impl Job {
    /// Attempts a run. Files that turn out to be damaged are added to `damaged`.
    pub(in crate::jobs) async fn attempt(
        &self,
        start: &RunStart<'_>,
        damaged: &mut DamagedFiles,
    ) -> Result<AttemptOutcome, JobError> {
        let runs = Runs::open(&self.lake);
        let published = runs.latest_publication().await?;
        let mut ledger: Ledger = match &published {
            Some(publication) => runs.read_ledger(publication.run).await?,
            None => Ledger::default(),
        };
        if damaged
            .keys()
            .any(|(key, _)| Ledger::archive_name(key).is_some())
        {
            self.check_archive(&ledger).await?;
        }
        seal_damaged(&mut ledger, damaged);
        let plausible = self.plausible();
        let settings = self.fingerprint();
        let full = start.options.full || (published.is_some() && ledger.settings != settings);
        let lost = self.lost_tables(published.as_ref(), full).await?;
        let listing = list_raw_folder(&self.raw).await?;
        check_known_files(&self.raw, &listing.files, ledger.readable_paths())?;
        let attempt = Attempt {
            job: self,
            start,
            runs,
            format: Arc::new(self.format(plausible)),
            plausible,
            listed: listing.files,
            passed_over: listing.passed_over,
            lost,
        };
        let changes = attempt.find_changes(&ledger, full, damaged);
        let surveyed = attempt.survey(&ledger, &changes, full, damaged).await?;
        let scope = attempt.scope(published.as_ref(), full).await?;
        let mut plan = plan(&ledger, &changes, surveyed, &scope);
        plan.ledger.settings = settings;
        let files = attempt.count_files(&ledger, &plan.ledger, &changes, full);
        let mut report = Report::new(start.started_at, full, &plan.dirty, files);
        if start.options.dry_run {
            report.outcome = Outcome::DryRun;
            report.would_read =
                Report::paths_to_read(&attempt.inputs_on(&plan.ledger, &plan.dirty));
            report.estimated_readings = Some(plan.ledger.estimate_readings(&plan.dirty));
        } else if !plan.dirty.is_empty()
            || published.is_none()
            || plan.ledger != ledger.without_deleted(&changes.deleted_expired)
        {
            let number = attempt.runs.next_run_number().await?;
            let is_published = attempt
                .publish(number, published.as_ref(), &mut plan, &mut report, damaged)
                .instrument(info_span!("resample", run = number))
                .await?;
            if !is_published {
                return Ok(AttemptOutcome::Restart);
            }
        }
        report.set_quarantined(&plan.ledger);
        report.set_passed_over(&plan.ledger, attempt.passed_over);
        report.seconds = start.watch.seconds();
        Ok(AttemptOutcome::Done(Box::new(report)))
    }

    /// Returns the tables whose published version does not exist, which a full run creates again. Other runs fail: they compute
    /// some dates only.
    async fn lost_tables(
        &self,
        published: Option<&Publication>,
        full: bool,
    ) -> Result<Vec<Resolution>, JobError> {
        let mut lost = Vec::new();
        for resolution in Resolution::ALL {
            let Some(publication) = published else {
                continue;
            };
            let version = publication.versions.get(resolution);
            let failed = table_error(resolution);
            let found = Table::has_version(&self.lake, resolution, version).await;
            match (found.map_err(&failed)?, full) {
                (true, _) => {}
                (false, true) => lost.push(resolution),
                (false, false) => {
                    let table = resolution.table();
                    return Err(failed(TableError::Lost { table, version }));
                }
            }
        }
        Ok(lost)
    }

    /// Fails if the archive of raw files is empty. A single missing file seals its dates, but an archive without any
    /// file is probably not mounted.
    async fn check_archive(&self, ledger: &Ledger) -> Result<(), JobError> {
        let archive = raw_archive(&self.lake);
        match has_files(&archive).await? {
            true => Ok(()),
            false => Err(JobError::EmptyArchive {
                folder: archive.to_string(),
                files: ledger.archived.len(),
            }),
        }
    }
}

impl Attempt<'_> {
    /// Returns the differences between the raw folder and the ledger. Damaged files count as fresh.
    fn find_changes(&self, ledger: &Ledger, full: bool, damaged: &DamagedFiles) -> Changes {
        let mut changes = compare(ledger, &self.listed, full);
        // Known files that this run found to be damaged. Their dates are computed again without them.
        let found = self
            .listed
            .iter()
            .filter(|file| damaged.contains_key(&(file.path.clone(), file.etag.clone())));
        let found: Vec<RawFile> = found
            .filter(|file| !changes.fresh.iter().any(|fresh| fresh.path == file.path))
            .cloned()
            .collect();
        changes.fresh.extend(found);
        changes
    }

    /// Returns the inputs of the plan besides the files.
    async fn scope(&self, published: Option<&Publication>, full: bool) -> Result<Scope, JobError> {
        let unfinished = self
            .runs
            .unfinished_intents(published.map_or(0, |publication| publication.run))
            .await?;
        let mut scope = Scope {
            dates: self.start.options.dates,
            plausible_end: self.plausible.end,
            unfinished: DateSet::default(),
            in_tables: DateSet::default(),
        };
        for intent in &unfinished {
            scope.unfinished.extend(&intent.dates);
        }
        if full
            && !self.lost.contains(&Resolution::Minute)
            && let Some(publication) = published
        {
            let table = Table::open_at(
                &self.job.lake,
                &self.job.schema,
                Resolution::Minute,
                publication.versions.data_min,
            );
            let table = table.await.map_err(table_error(Resolution::Minute))?;
            scope.in_tables = table
                .files()
                .iter()
                .filter_map(|file| file.partition.days())
                .map(|days| days.0)
                .collect();
        }
        Ok(scope)
    }

    /// Returns the files that can be read, in order of precedence; later files win.
    pub(in crate::jobs) fn inputs(&self, ledger: &Ledger) -> Vec<Input> {
        let mut ranked = Vec::new();
        for file in &self.listed {
            let known = ledger.files.get(&file.path);
            if let Some(known) = known.filter(|known| known.quarantined.is_none()) {
                let input = Input {
                    key: file.path.clone(),
                    folder: self.job.raw.clone(),
                    file: file.clone(),
                };
                ranked.push(((known.precedence(), file.path.clone()), input));
            }
        }
        let archive = raw_archive(&self.job.lake);
        for (name, archived) in &ledger.archived {
            if archived.file.quarantined.is_none() {
                let input = Input {
                    key: Ledger::archive_key(name),
                    folder: archive.clone(),
                    file: archived.to_raw_file(name),
                };
                ranked.push(((archived.file.precedence(), archived.path.clone()), input));
            }
        }
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        ranked.into_iter().map(|(_, input)| input).collect()
    }

    /// Returns the inputs that have readings on `dates`.
    pub(in crate::jobs) fn inputs_on(&self, ledger: &Ledger, dates: &DateSet) -> Vec<Input> {
        let mut inputs = self.inputs(ledger);
        inputs.retain(|input| {
            let known = ledger.file(&input.key);
            known.is_some_and(|known| known.dates.intersects(dates))
        });
        inputs
    }

    /// Counts the raw files for the report, except those in quarantine.
    fn count_files(
        &self,
        before: &Ledger,
        after: &Ledger,
        changes: &Changes,
        full: bool,
    ) -> FileCounts {
        // In a full run every file is fresh, but only files that differ count as changed.
        let compared = full.then(|| compare(before, &self.listed, false));
        let fresh = compared.as_ref().map_or(&changes.fresh, |all| &all.fresh);
        // Files that are no Parquet files are counted by `Report::set_passed_over`.
        let is_raw = |path: &str| after.files.get(path).is_some_and(|it| !it.is_passed_over);
        let was_known = |path: &str| before.files.contains_key(path);
        let is_counted = |known: bool| {
            move |file: &&RawFile| was_known(&file.path) == known && is_raw(&file.path)
        };
        let removed = changes.removed.iter();
        FileCounts {
            known: after.files.values().filter(|it| !it.is_passed_over).count(),
            new: fresh.iter().filter(is_counted(false)).count(),
            changed: fresh.iter().filter(is_counted(true)).count(),
            removed: removed.filter(|path| !before.is_passed_over(path)).count(),
            quarantined: 0,
            passed_over: 0,
        }
    }
}

/// Seals the dates of archived files that can no longer be read, so that their averages are kept instead of computed
/// without them.
fn seal_damaged(ledger: &mut Ledger, damaged: &DamagedFiles) {
    for ((key, _), reason) in damaged {
        let name = Ledger::archive_name(key);
        let archived = name.and_then(|name| ledger.archived.get_mut(name));
        if let Some(archived) = archived {
            ledger.sealed.extend(&archived.file.dates);
            archived.file.quarantined = Some(format!(
                "the archived file is damaged, so its dates are sealed ({}); `plantlake maintain` removes its record: {reason}",
                archived.file.dates
            ));
        }
    }
    // Readings that were due on these dates are late now, and are reported as such.
    let sealed = ledger.sealed.clone();
    for file in ledger.files.values_mut() {
        file.late.extend(&file.due.intersection(&sealed));
    }
}
