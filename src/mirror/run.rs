//! A mirror run.
//!
//! 1. Connect and take the lock. Then read what the lake has published, so that no run replaces newer data with older.
//! 2. Compare the files of the lake with the sources of the mirror.
//! 3. In one transaction: create or migrate the tables; write the assets, the rows of each table, and their sources.
//! 4. In separate steps: delete rows that have left the window, and assets that are no longer used.
//!
//! A run that dies leaves either the old state or the new one, and perhaps some rows that the next run prunes. After a
//! transient failure, everything is repeated from the beginning.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use tracing::{info, warn};

use super::assets::Assets;
use super::error::MirrorError;
use super::fill::TableFiller;
use super::options::Options;
use super::plan::{self, DateSources, MinuteSources, TablePlan, first_date};
use super::progress::Progress;
use super::prune::prune;
use super::report::{AssetReport, Outcome, Report, Status, TableReport};
use super::schema::{self, SchemaVersion};
use super::session::{Session, execute};
use super::state::{self, RunMetadata, States};
use super::statements;
use super::table_columns::MissingColumns;
use crate::catalog::{CatalogError, Snapshot};
use crate::clock::{self, Stopwatch};
use crate::config::{DatabaseUrl, MirrorSettings};
use crate::lake::Store;
use crate::lake::delta::table::Table;
use crate::lake::records::runs::{Publication, Runs};
use crate::lake::storage::failpoint;
use crate::model::Resolution;
use crate::rollup_schema::RollupSchema;
use crate::store::{ServerFacts, server_facts};

/// The delay before the second attempt; it doubles with each further one,
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
/// up to this.
const MAX_BACKOFF: Duration = Duration::from_secs(15);
/// The timeout of Postgres for reading the status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// A mirror of a lake, with everything that is needed to update it.
pub struct Mirror {
    /// The lake.
    pub lake: Store,
    /// The catalog's folder.
    pub catalog: PathBuf,
    /// The database.
    pub url: DatabaseUrl,
    /// The windows and timeouts.
    pub settings: MirrorSettings,
    /// The columns of the tables.
    pub schema: RollupSchema,
    /// The receiver of progress.
    pub progress: Arc<dyn Progress>,
}

/// The publication of the lake, and the plan for each table.
struct RunPlan {
    publication: Publication,
    tables: Vec<(Arc<Table>, TablePlan)>,
}

impl Mirror {
    /// Updates the mirror. Transient failures are retried.
    pub async fn run(&self, options: &Options) -> Result<Report, MirrorError> {
        let watch = Stopwatch::start();
        let retry_for = self.settings.retry_for.to_std().unwrap_or_default();
        let mut first_failure: Option<Stopwatch> = None;
        let mut wait = INITIAL_BACKOFF;
        for attempts in 1.. {
            let error = match self.attempt(options).await {
                Ok(mut report) => {
                    report.attempts = attempts;
                    report.seconds = watch.seconds();
                    return Ok(report);
                }
                Err(error) => error,
            };
            let failing = first_failure.get_or_insert_with(Stopwatch::start);
            let left = retry_for.saturating_sub(failing.elapsed());
            if !error.is_transient() || left.is_zero() {
                return Err(match attempts {
                    1 => error,
                    attempts => MirrorError::RetriesExhausted {
                        attempts,
                        waited: watch.elapsed(),
                        source: Box::new(error),
                    },
                });
            }
            let wait_now = wait.min(left);
            self.progress.retrying(&error, wait_now);
            tokio::time::sleep(wait_now).await;
            wait = (wait * 2).min(MAX_BACKOFF);
        }
        Err(MirrorError::ReaderFailed)
    }

    async fn attempt(&self, options: &Options) -> Result<Report, MirrorError> {
        let mut session = Session::open(&self.url, &self.settings).await?;
        if !options.dry_run {
            session.lock().await?;
            failpoint::reach("mirror-locked");
        }
        let version = schema::version(&mut session.link()).await?;
        let states = match version {
            SchemaVersion::None => States::new(),
            SchemaVersion::Older | SchemaVersion::UpToDate => {
                state::read(&mut session.link(), true).await?
            }
        };
        let missing = match version {
            SchemaVersion::None => MissingColumns::of_new_tables(&self.schema),
            SchemaVersion::Older | SchemaVersion::UpToDate => {
                MissingColumns::read(&mut session.link(), &self.schema).await?
            }
        };
        let mut report = Report {
            outcome: Outcome::NothingPublished,
            lake: self.lake.to_string(),
            mirror: self.url.to_string(),
            run: None,
            full: options.full,
            made_tables: version == SchemaVersion::None && !options.dry_run,
            tables: Vec::new(),
            assets: AssetReport::default(),
            notes: Vec::new(),
            attempts: 1,
            seconds: 0.0,
        };
        let now = failpoint::now().unwrap_or_else(clock::now);
        let Some(due) = self.plan_run(&states, now, options.full).await? else {
            report.made_tables = false;
            return Ok(report);
        };
        report.run = Some(due.publication.run);
        report.notes = notes(&states, &due, &report.lake);
        if options.dry_run {
            report.outcome = Outcome::DryRun;
            report.tables = due
                .tables
                .iter()
                .map(|(_, plan)| TableReport::from_plan(plan))
                .collect();
            return Ok(report);
        }
        let catalog = match Snapshot::read(&self.catalog) {
            Ok(catalog) => Some(catalog),
            Err(error) => {
                report.assets.catalog_problem = Some(problem(&error));
                None
            }
        };
        let mut assets = self
            .apply(
                &mut session,
                (version, &missing),
                &due,
                catalog.as_ref(),
                now,
                &mut report,
            )
            .await?;
        failpoint::reach("mirror-after-commit");
        for (table, (_, plan)) in report.tables.iter_mut().zip(&due.tables) {
            let pruned_to = states.get(&plan.resolution).map(|state| state.pruned_to);
            if options.full || pruned_to.is_some_and(|date| date < plan.first) {
                table.pruned = prune(&mut session.link(), plan).await?;
            }
        }
        failpoint::reach("mirror-before-tidy");
        if catalog.is_some() {
            report.assets.removed = assets.remove_unused(&mut session.link()).await?;
        }
        failpoint::reach("mirror-after-tidy");
        report.assets.added = assets.added;
        report.assets.changed = assets.changed;
        report.assets.unknown = assets.unknown.iter().map(uuid::Uuid::to_string).collect();
        report.outcome = match has_changed(&report) {
            true => Outcome::Mirrored,
            false => Outcome::NothingToDo,
        };
        info!(run = report.run, outcome = ?report.outcome, "mirrored");
        Ok(report)
    }

    /// Step 3 of a run.
    async fn apply(
        &self,
        session: &mut Session,
        (version, missing): (SchemaVersion, &MissingColumns),
        due: &RunPlan,
        catalog: Option<&Snapshot>,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<Assets, MirrorError> {
        let is_new = version == SchemaVersion::None;
        if !is_new && !missing.is_empty() {
            // In a transaction of its own, because readers wait until it ends.
            let mut change = session.begin().await?;
            missing.add(&mut change.link()).await?;
            change.commit().await?;
        }
        let mut change = session.begin().await?;
        let mut link = change.link();
        match version {
            SchemaVersion::None => {
                schema::create_tables(&mut link).await?;
                missing.add(&mut link).await?;
            }
            SchemaVersion::Older => schema::migrate(&mut link).await?,
            SchemaVersion::UpToDate => {}
        }
        failpoint::reach("mirror-begun");
        let mut assets = Assets::update(&mut link, catalog).await?;
        failpoint::reach("mirror-after-assets");
        if !is_new {
            let incoming = AssertSqlSafe(statements::create_incoming(&self.schema));
            let incoming = sqlx::query(incoming);
            execute(&mut link, "comparing rows", incoming).await?;
        }
        let rows = due.tables.iter().map(|(_, plan)| plan.rows());
        self.progress.expect(rows.sum());
        for (table, plan) in &due.tables {
            let watch = Stopwatch::start();
            let mut filling = TableFiller {
                assets: &mut assets,
                schema: &self.schema,
                is_new,
                progress: &*self.progress,
            };
            let counts = filling.fill(&mut link, table, plan).await?;
            let seconds = watch.seconds();
            report.tables.push(TableReport {
                sent: counts.sent,
                deleted: counts.deleted,
                inserted: counts.inserted,
                seconds,
                rows_per_second: counts.sent as f64 / seconds.max(1e-3),
                ..TableReport::from_plan(plan)
            });
        }
        if is_new {
            schema::migrate(&mut link).await?;
        }
        let mirrored = RunMetadata {
            lake: report.lake.clone(),
            run: due.publication.run,
            published_at: due.publication.published_at,
            now,
        };
        for (_, plan) in &due.tables {
            state::write(&mut link, &mirrored, plan).await?;
        }
        failpoint::reach("mirror-before-commit");
        change.commit().await?;
        Ok(assets)
    }

    /// Returns the plan; `None` if nothing was ever published, since a missing lake must not be treated as an empty one.
    async fn plan_run(
        &self,
        states: &States,
        now: DateTime<Utc>,
        full: bool,
    ) -> Result<Option<RunPlan>, MirrorError> {
        let publication = Runs::open(&self.lake).latest_publication().await?;
        let Some(publication) = publication else {
            return Ok(None);
        };
        let mut tables = Vec::new();
        let mut minutes = MinuteSources::new(&self.schema);
        for resolution in Resolution::ALL {
            let version = publication.versions.get(resolution);
            let table = Table::open_at(&self.lake, &self.schema, resolution, version).await;
            let table = table.map_err(MirrorError::table(resolution.table()))?;
            let files = table.files();
            if resolution == Resolution::Minute {
                minutes.read(&files)?;
            }
            let nothing = DateSources::new();
            let recorded = states
                .get(&resolution)
                .map_or(&nothing, |state| &state.dates);
            let first = first_date(now, self.settings.window(resolution));
            let from = publication.minutes_from;
            let plan = plan::plan(resolution, first, &files, &minutes, from, recorded, full)?;
            tables.push((Arc::new(table), plan));
        }
        Ok(Some(RunPlan {
            publication,
            tables,
        }))
    }
}

/// Returns the status of a mirror, with a short timeout.
pub async fn status(url: &DatabaseUrl) -> Result<Status, MirrorError> {
    Ok(examine(url).await?.1)
}

/// Returns the status of a mirror and facts about its server, with a short timeout.
pub async fn examine(url: &DatabaseUrl) -> Result<(ServerFacts, Status), MirrorError> {
    let mut session = Session::open_with_timeout(url, STATUS_TIMEOUT).await?;
    let mut link = session.link();
    let facts = link.run("reading its version", async |connection| {
        server_facts(connection).await
    });
    let facts = facts.await?;
    let states = match schema::version(&mut link).await? {
        SchemaVersion::None => States::new(),
        SchemaVersion::Older | SchemaVersion::UpToDate => state::read(&mut link, false).await?,
    };
    Ok((facts, Status::new(url.to_string(), &states)))
}

/// Returns notes if the mirror was a copy of another lake, or of a run that the lake no longer has.
fn notes(states: &States, due: &RunPlan, lake: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(state) = states.values().next() {
        if state.lake != lake {
            notes.push(format!(
                "the mirror was a copy of the lake {}; rows that differ are replaced",
                state.lake
            ));
        } else if state.run > due.publication.run {
            notes.push(format!(
                "the mirror had run {}, which the lake no longer has; rows that differ are replaced",
                state.run
            ));
        }
    }
    for note in &notes {
        warn!("{note}");
    }
    notes
}

fn problem(error: &CatalogError) -> String {
    error.problems().to_string()
}

fn has_changed(report: &Report) -> bool {
    let assets = &report.assets;
    let rows = |table: &TableReport| table.deleted + table.inserted + table.pruned;
    report.made_tables
        || assets.added + assets.changed + assets.removed > 0
        || report.tables.iter().map(rows).sum::<u64>() > 0
}
