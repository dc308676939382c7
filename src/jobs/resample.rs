//! The resample job: updates the three tables from the raw files, exactly once.
//!
//! 1. Take the lease; list the raw files, compare them with the ledger of the last published run, and survey new and
//!    changed files.
//! 2. Write the intent. If the run crashes, the next one computes these dates again.
//! 3. Compute the dirty dates from the raw files, cell by cell, into new data files.
//! 4. Commit the minute, hour and day tables, each once and with the run's number.
//! 5. Write the ledger, and publish the three versions together: from here on readers see them.
//!
//! A run that crashed is not continued but superseded: its raw files may no longer exist, and computing its dates from
//! the current files is right whatever it had committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use tracing::{Instrument, debug, info, info_span, warn};

use super::compute::{Totals, estimate_readings};
use super::inputs::raw_archive;
use super::ledger::Ledger;
use super::plan::{Plan, Scope, compare, plan};
use super::report::{DateSpan, FileCounts, Outcome, ReadingCounts, Report};
use super::rollup_files::{RollupFiles, RollupFilesError};
use super::spec::ResampleSpec;
use crate::clock::{self, Stopwatch};
use crate::config::Settings;
use crate::lake::lease::{Holder, Lease, LeaseError};
use crate::lake::raw::archive_copy::{CopyError, has_files};
use crate::lake::raw::{ColumnNames, ListError, RawFile, RawFileError, RawFormat, list_raw_files};
use crate::lake::runs::{Intent, Publication, Runs, RunsError};
use crate::lake::table::{Change, Table, TableError};
use crate::lake::{Store, failpoint};
use crate::model::{DateSet, Day, Resolution, Window, day_of};

/// The number of published runs whose records are kept, for readers that still use them.
pub(super) const MAX_KEPT_RUNS: usize = 100;
/// The maximum number of attempts of a run. A run starts over if raw files change while it reads them, or turn out to
/// be damaged.
const MAX_ATTEMPTS: usize = 20;
/// The upper bound of plausible times in microseconds, 6000-01-01. Minute numbers of 32 bits reach to the year 6053.
pub(super) const MAX_TIME_MICROS: i64 = 127_174_492_800_000_000;

/// The reasons why a run failed. Readers see nothing of what it wrote, and the next run replaces it.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another run holds the lease, or took it over.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The raw folder cannot be listed.
    #[error("cannot list the raw files")]
    Raw(#[from] ListError),
    /// The store of the raw files fails.
    #[error("cannot read the raw files")]
    RawStore(#[source] RawFileError),
    /// A raw file cannot be archived or restored.
    #[error("cannot archive or restore raw files")]
    Archive(#[from] CopyError),
    /// There is an archive that no known run created.
    #[error(
        "cannot create the archive: {folder} has tables with rows that no recorded run wrote; the records of runs were lost, \
         or the tables belong to another lake. They were not changed. Move them elsewhere, where any reader of Delta tables \
         can read them, and run again"
    )]
    UnknownArchive {
        /// The folder of the archive.
        folder: String,
    },
    /// A raw file is not deleted, because its copy is missing in the archive.
    #[error(
        "cannot delete the expired raw file {path}: its copy {file} is missing. Restore the copy; or touch the raw file, and \
         the next `plantlake resample` treats it as restored"
    )]
    MissingArchiveCopy {
        /// The missing copy.
        file: String,
        /// The path of the raw file.
        path: String,
    },
    /// The archive of raw files is empty, although raw files were archived.
    #[error(
        "cannot read the archived raw files: {folder} is empty, but {files} raw files were archived there, and late readings \
         are averaged with them. Check that it is mounted, or restore it, and run again"
    )]
    EmptyArchive {
        /// The folder of the archive.
        folder: String,
        /// The number of raw files that were archived.
        files: usize,
    },
    /// The records of runs cannot be read or written.
    #[error("cannot use the records of runs")]
    Runs(#[from] RunsError),
    /// A table cannot be read or committed to.
    #[error("cannot use table {table}")]
    Table {
        /// The name of the table.
        table: &'static str,
        /// The table's error.
        source: Box<TableError>,
    },
    /// The rollups cannot be written.
    #[error("cannot write the rollups")]
    Files(#[from] RollupFilesError),
    /// The computation failed.
    #[error("cannot compute the rollups")]
    Compute(#[from] DataFusionError),
    /// Raw files change faster than they can be read.
    #[error(
        "raw files changed while they were read, {MAX_ATTEMPTS} times; write files under another name and rename them when they are complete"
    )]
    FilesChanging,
}

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether to compute everything again.
    pub full: bool,
    /// The only dates to compute, if given; other dates stay due.
    pub dates: Option<(Day, Day)>,
    /// Whether to report only, without changing anything.
    pub dry_run: bool,
}

/// Receives the progress of a run.
pub trait Progress: Send + Sync {
    /// Announces the approximate number of readings that will be read.
    fn expect(&self, readings: u64);
    /// Reports the number of readings that were read since the last call.
    fn read(&self, readings: u64);
}

/// The resample job with its inputs.
pub struct Job {
    /// The lake.
    pub lake: Store,
    /// The raw files.
    pub raw: Store,
    /// The settings.
    pub settings: Settings,
    /// The operator's specification of the job.
    pub spec: ResampleSpec,
    /// The receiver of progress.
    pub progress: Arc<dyn Progress>,
}

/// The state of one attempt of a run.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job,
    lease: Option<&'a Lease>,
    runs: Runs,
    pub(super) format: Arc<RawFormat>,
    pub(super) plausible: Window,
    pub(super) listed: Vec<RawFile>,
}

/// The outcome of an attempt.
enum AttemptOutcome {
    Done(Box<Report>),
    /// A file changed, or turned out to be damaged after other results were computed with it.
    Restart,
}

pub(super) fn table_error(resolution: Resolution) -> impl Fn(TableError) -> JobError {
    move |source| JobError::Table {
        table: resolution.table(),
        source: Box::new(source),
    }
}

/// Seals the dates of archived files that can no longer be read, so that their averages are kept instead of computed
/// without them.
fn seal_damaged(ledger: &mut Ledger, damaged: &BTreeMap<(String, String), String>) {
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

impl Job {
    /// Runs the job once.
    pub async fn run(&self, options: &Options) -> Result<Report, JobError> {
        let watch = Stopwatch::start();
        let started_at = clock::now();
        let lease = if options.dry_run {
            None
        } else {
            Some(Lease::take(&self.lake, Holder::for_process("resample")).await?)
        };
        failpoint::reach("lease-taken");
        let mut damaged = BTreeMap::new();
        let mut result = Err(JobError::FilesChanging);
        for _ in 0..MAX_ATTEMPTS {
            match self
                .attempt(options, lease.as_ref(), &mut damaged, &watch, started_at)
                .await
            {
                Ok(AttemptOutcome::Restart) => continue,
                Ok(AttemptOutcome::Done(report)) => result = Ok(*report),
                Err(error) => result = Err(error),
            }
            break;
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        result
    }

    async fn attempt(
        &self,
        options: &Options,
        lease: Option<&Lease>,
        damaged: &mut BTreeMap<(String, String), String>,
        watch: &Stopwatch,
        started_at: chrono::DateTime<chrono::Utc>,
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
        let full = options.full || (published.is_some() && ledger.settings != settings);
        let attempt = Attempt {
            job: self,
            lease,
            runs,
            format: Arc::new(self.format(plausible)),
            plausible,
            listed: list_raw_files(&self.raw).await?,
        };
        let mut changes = compare(&ledger, &attempt.listed, full);
        // Known files that this run found to be damaged. Their dates are computed again without them.
        let found = attempt
            .listed
            .iter()
            .filter(|file| damaged.contains_key(&(file.path.clone(), file.etag.clone())));
        let found: Vec<RawFile> = found
            .filter(|file| !changes.fresh.iter().any(|fresh| fresh.path == file.path))
            .cloned()
            .collect();
        changes.fresh.extend(found);
        let surveyed = attempt.survey(&ledger, &changes, full, damaged).await?;
        let unfinished = attempt
            .runs
            .unfinished_intents(published.as_ref().map_or(0, |publication| publication.run))
            .await?;
        let mut scope = Scope {
            dates: options.dates,
            last_plausible: day_of(plausible.end.saturating_sub(1)),
            unfinished: DateSet::default(),
            in_tables: DateSet::default(),
        };
        for intent in &unfinished {
            scope.unfinished.extend(&intent.dates);
        }
        if full && let Some(publication) = &published {
            let table = Table::open_at(
                &self.lake,
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
        let mut plan = plan(&ledger, &changes, surveyed, &scope);
        plan.ledger.settings = settings;
        let mut report = Report {
            run: None,
            outcome: Outcome::NothingToDo,
            started_at: started_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            full,
            dates: DateSpan::from(&plan.dirty),
            files: FileCounts {
                known: plan.ledger.files.len(),
                new: changes.new,
                changed: changes.fresh.len()
                    - changes
                        .fresh
                        .iter()
                        .filter(|file| !ledger.files.contains_key(&file.path))
                        .count(),
                removed: changes.removed.len(),
                quarantined: 0,
            },
            readings: ReadingCounts::default(),
            rows: BTreeMap::new(),
            seconds: 0.0,
            quarantined: Vec::new(),
            left_out: Vec::new(),
            would_read: Vec::new(),
            estimated_readings: None,
        };
        if full {
            // In a full run every file is fresh, but only files that differ count as changed.
            let really = compare(&ledger, &attempt.listed, false);
            report.files.changed = really.fresh.len() - really.new;
        }
        if options.dry_run {
            report.outcome = Outcome::DryRun;
            report.would_read =
                Report::paths_to_read(&attempt.inputs_on(&plan.ledger, &plan.dirty));
            report.estimated_readings = Some(estimate_readings(&plan.ledger, &plan.dirty));
        } else if !plan.dirty.is_empty()
            || published.is_none()
            || plan.ledger != ledger.without_deleted(&changes.deleted_expired)
        {
            let number = attempt.runs.next_run_number().await?;
            match attempt
                .publish(number, published, &mut plan, &mut report, damaged, watch)
                .instrument(info_span!("resample", run = number))
                .await?
            {
                Some(()) => report.run = Some(number),
                None => return Ok(AttemptOutcome::Restart),
            }
        }
        report.quarantined = Report::quarantined_files(&plan.ledger);
        report.files.quarantined = report.quarantined.len();
        report.seconds = watch.seconds();
        Ok(AttemptOutcome::Done(Box::new(report)))
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

    pub(super) fn plausible(&self) -> Window {
        let plausible = self.settings.resample.plausible_times(clock::now());
        Window {
            start: *plausible.start(),
            end: plausible.end().saturating_add(1).min(MAX_TIME_MICROS),
        }
    }

    pub(super) fn format(&self, plausible: Window) -> RawFormat {
        let columns = &self.spec.columns;
        RawFormat {
            columns: ColumnNames {
                id: columns.id.clone(),
                timestamp: columns.timestamp.clone(),
                value: columns.value.clone(),
            },
            timezone: self.settings.resample.timezone,
            plausible,
        }
    }

    /// Returns the settings that determine the results. The plausible range is included as it is configured: `+1d`
    /// moves with the clock, and dates that become plausible later stay due until then (see `plan`).
    pub(super) fn fingerprint(&self) -> String {
        let resample = &self.settings.resample;
        let columns = &self.spec.columns;
        format!(
            "zone={} earliest={:?} latest={:?} columns={:?}/{:?}/{:?} raw={}",
            resample.timezone,
            resample.earliest,
            resample.latest,
            columns.id,
            columns.timestamp,
            columns.value,
            self.raw
        )
    }
}

impl Attempt<'_> {
    /// Performs steps 2 to 5. Returns `None` if the run must start over.
    async fn publish(
        &self,
        run: u64,
        published: Option<Publication>,
        plan: &mut Plan,
        report: &mut Report,
        damaged: &mut BTreeMap<(String, String), String>,
        watch: &Stopwatch,
    ) -> Result<Option<()>, JobError> {
        let mut tables = Vec::new();
        for resolution in Resolution::ALL {
            let before = published.as_ref();
            let before = before.map(|it| it.versions.get(resolution));
            let table = Table::open_for_change(&self.job.lake, resolution, before).await;
            tables.push(table.map_err(table_error(resolution))?);
        }
        let Ok(tables) = <[Table; 3]>::try_from(tables) else {
            return Err(JobError::FilesChanging);
        };
        failpoint::reach("before-intent");
        let intent = Intent {
            run,
            started_at: clock::now(),
            dates: plan.dirty.clone(),
            files: self
                .inputs_on(&plan.ledger, &plan.dirty)
                .into_iter()
                .map(|input| (input.key, input.file.etag))
                .collect(),
        };
        self.runs.write_intent(&intent).await?;
        failpoint::reach("after-intent");
        let files = Arc::new(RollupFiles::new(tables, plan.dirty.clone()));
        let mut gathered = Totals::default();
        let computed = self.compute(plan, &files, &mut gathered, damaged).await;
        if !matches!(computed, Ok(true)) {
            files.discard().await;
            computed?;
            return Ok(None);
        }
        debug!("all dates are computed");
        let changes = files.take_changes();
        for (resolution, change) in Resolution::ALL.iter().zip(&changes) {
            report
                .rows
                .insert(resolution.table().to_owned(), change.rows);
        }
        let mut versions = Vec::new();
        for ((mut table, change), resolution) in
            files.tables().into_iter().zip(changes).zip(Resolution::ALL)
        {
            if let Some(lease) = self.lease {
                lease.check()?;
            }
            failpoint::reach(&format!("before-commit-{}", resolution.table()));
            let change = Change {
                add: change.add,
                remove: change.remove,
                ..Change::default()
            };
            let version = table.commit(run, change).await;
            versions.push(version.map_err(table_error(resolution))?);
            failpoint::reach(&format!("after-commit-{}", resolution.table()));
        }
        self.record_totals(plan, report, gathered);
        failpoint::reach("before-ledger");
        self.runs.write_ledger(run, &plan.ledger).await?;
        failpoint::reach("after-ledger");
        report.run = Some(run);
        report.outcome = Outcome::Published;
        report.seconds = watch.seconds();
        report.quarantined = Report::quarantined_files(&plan.ledger);
        report.files.quarantined = report.quarantined.len();
        self.runs.write_record(run, report).await?;
        if let Some(lease) = self.lease {
            lease.check()?;
        }
        failpoint::reach("before-publish");
        let mut publication =
            Publication::new(run, [versions[0], versions[1], versions[2]], clock::now());
        if let Some(before) = &published {
            publication.copy_expiry_state(before);
        }
        self.runs.publish(&publication).await?;
        failpoint::reach("after-publish");
        info!(
            previous = published.map(|publication| publication.run),
            "published"
        );
        for resolution in Resolution::ALL {
            let version = publication.versions.get(resolution);
            let lake = &self.job.lake;
            if let Err(error) = Table::checkpoint_if_due(lake, resolution, version).await {
                // Nothing depends on the checkpoint; a later run writes the next one.
                warn!(%error, "cannot write a checkpoint of {}", resolution.table());
            }
        }
        let since = clock::now() - self.job.settings.maintain.grace;
        if let Err(error) = self.runs.clean_up(MAX_KEPT_RUNS, since).await {
            // Nothing depends on the clean-up; the next run tries again.
            warn!(%error, "cannot remove old run records");
        }
        failpoint::reach("after-cleanup");
        Ok(Some(()))
    }
}
