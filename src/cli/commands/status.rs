//! `plantlake status`: shows raw files, tables, last runs and the mirror.

use std::time::Duration;

use serde::Serialize;

use crate::cli::administration::format_instant;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, Terminal, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::{DatabaseUrl, Settings, redact};
use crate::jobs::{QuarantinedFile, Status, status};
use crate::lake::Store;
use crate::mirror;
use crate::store::{JobRun, OrganisationStore, StoreError};

const EXAMPLES: &str = "\
Examples:
  plantlake status
  plantlake --lake s3://plant/lake status --runs 30
  plantlake status --json | jq .raw.quarantined";

/// Show raw files, tables, last runs and the mirror
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// The number of latest runs to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// The JSON output.
#[derive(Serialize)]
struct StatusOutput<'a> {
    lake: String,
    #[serde(flatten)]
    status: &'a Status,
    /// The mirror; `None` if none is configured.
    mirror: Option<Mirror>,
    /// Jobs whose last run failed.
    failed_jobs: &'a [JobRun],
}

/// The mirror, compared with the lake.
#[derive(Serialize)]
struct Mirror {
    /// The state of the mirror; `None` if it cannot be queried.
    #[serde(flatten)]
    status: Option<mirror::Status>,
    /// The reason for which the mirror cannot be queried.
    problem: Option<String>,
    /// The run that computed averages last.
    published_run: Option<u64>,
    /// Whether the mirror has that run.
    is_up_to_date: bool,
}

impl Mirror {
    async fn query(settings: &Settings, status: &Status) -> Option<Self> {
        let url = settings.mirror_url.as_ref()?;
        let published_run = status.runs.iter().find_map(|run| run.run);
        Some(match mirror::status(url).await {
            Ok(found) => Self {
                is_up_to_date: is_up_to_date(found.run, published_run, status.published_run),
                status: Some(found),
                problem: None,
                published_run,
            },
            Err(error) => {
                let causes = anyhow::Error::new(error);
                let causes: Vec<String> = causes.chain().map(ToString::to_string).collect();
                Self {
                    status: None,
                    problem: Some(redact(&causes.join(": ")).into_owned()),
                    published_run,
                    is_up_to_date: false,
                }
            }
        })
    }

    fn print(&self, terminal: &Terminal) -> anyhow::Result<()> {
        if let Some(problem) = &self.problem {
            terminal.warn(&format!("cannot query the mirror: {problem}"));
            return Ok(());
        }
        let Some(found) = &self.status else {
            return Ok(());
        };
        let Some(run) = found.run else {
            terminal.line(&format!(
                "mirror  {}: empty; run `plantlake mirror`",
                found.mirror
            ))?;
            return Ok(());
        };
        let at = found.mirrored_at.as_deref().unwrap_or_default();
        let lag = match (self.is_up_to_date, self.published_run) {
            (true, _) | (_, None) => "up to date".to_owned(),
            (false, Some(published)) => {
                format!("the lake has published run {published} since; run `plantlake mirror`")
            }
        };
        terminal.line(&format!(
            "mirror  {}: run {run}, mirrored at {at}; {lag}",
            found.mirror
        ))?;
        for table in &found.tables {
            terminal.line(&format!("        {} from {}", table.table, table.from))?;
        }
        Ok(())
    }
}

/// Whether a mirror with the run `mirrored` has what the run `computed` computed. The lake has published `last` since,
/// which is later if it is a run of maintenance: the mirror need not have it, but may.
fn is_up_to_date(mirrored: Option<u64>, computed: Option<u64>, last: Option<u64>) -> bool {
    match (mirrored, computed) {
        (Some(mirrored), Some(computed)) => {
            (computed..=last.unwrap_or(computed)).contains(&mirrored)
        }
        _ => false,
    }
}

/// Returns the jobs whose last run failed. A database that does not exist is not created.
async fn failed_jobs(url: &DatabaseUrl) -> anyhow::Result<Vec<JobRun>> {
    let (store, _) = match OrganisationStore::open_existing(url).await {
        Err(StoreError::Missing { .. }) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut runs = store.last_ended_job_runs().await?;
    runs.retain(|run| run.status.is_failure());
    Ok(runs)
}

impl RunCommand for StatusArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let settings = &context.settings;
        let lake = Store::open_existing_lake(&settings.lake, settings.storage.options())?;
        let raw = Store::open_existing(&settings.raw, settings.storage.options())?;
        // At least one run is needed, to compare it with the mirror.
        let mut status = status(&lake, &raw, self.runs.max(1)).await?;
        let mirror = Mirror::query(settings, &status).await;
        status.runs.truncate(self.runs);
        let terminal = &context.terminal;
        let failed = failed_jobs(&settings.organisation_url)
            .await
            .unwrap_or_else(|error| {
                terminal.warn(&format!("cannot list failed jobs: {error}"));
                Vec::new()
            });
        if self.json {
            terminal.line(&serde_json::to_string(&StatusOutput {
                lake: lake.to_string(),
                status: &status,
                mirror,
                failed_jobs: &failed,
            })?)?;
            return Ok(Exit::Success);
        }
        terminal.line(&format!("lake  {lake}"))?;
        let files = &status.raw;
        terminal.line(&format!(
            "raw   {} known, {} new, {} changed, {} removed, {} quarantined",
            human::counted(files.known as u64, "file"),
            human::count(files.new as u64),
            human::count(files.changed as u64),
            human::count(files.removed as u64),
            human::count(files.quarantined.len() as u64)
        ))?;
        for file in &files.quarantined {
            terminal.line(&format!("      quarantined: {}", file.reason))?;
        }
        print_passed_over(terminal, files.passed_over, &files.passed_over_files)?;
        for run in &failed {
            let error = run.error.as_deref().unwrap_or_default();
            let (job, status, at) = (
                &run.job,
                run.status.name(),
                format_instant(run.ended_at.unwrap_or(run.started_at)),
            );
            terminal.line(&format!("job   {job} {status} at {at}: {error}"))?;
        }
        if status.tables.is_empty() {
            terminal.line("Nothing is published yet: run `plantlake resample`.")?;
            return Ok(Exit::Success);
        }
        let mut tables = Table::new(["table", "version", "rows", "files", "size", "from", "to"])
            .numbers([1, 2, 3, 4]);
        for table in &status.tables {
            tables.row([
                table.table.clone(),
                table.version.to_string(),
                human::count(table.rows),
                human::count(table.files as u64),
                human::bytes(table.bytes),
                table.first.clone().unwrap_or_default(),
                table.last.clone().unwrap_or_default(),
            ]);
        }
        terminal.line("")?;
        terminal.table(&tables)?;
        let mut runs = Table::new([
            "run",
            "started",
            "took",
            "dates",
            "readings",
            "left out",
            "minute rows",
            "quarantined",
        ])
        .numbers([0, 3, 4, 5, 6, 7]);
        for run in &status.runs {
            runs.row([
                run.run.map(|run| run.to_string()).unwrap_or_default(),
                run.started_at.clone(),
                human::duration(Duration::from_secs_f64(run.seconds)),
                human::count(run.dates.count as u64),
                human::count(run.readings.used),
                human::count(run.readings.left_out.total()),
                human::count(run.rows.get("data_min").copied().unwrap_or(0)),
                human::count(run.files.quarantined as u64),
            ]);
        }
        terminal.line("")?;
        terminal.table(&runs)?;
        if let Some(mirror) = mirror {
            terminal.line("")?;
            mirror.print(terminal)?;
        }
        Ok(Exit::Success)
    }
}

/// Prints the number of files that were passed over, and the first of them.
pub(super) fn print_passed_over(
    terminal: &Terminal,
    count: usize,
    files: &[QuarantinedFile],
) -> anyhow::Result<()> {
    const MAX_SHOWN: usize = 5;
    if count == 0 {
        return Ok(());
    }
    terminal.line(&format!(
        "passed over: {}, which are no raw files",
        human::counted(count as u64, "file")
    ))?;
    for file in files.iter().take(MAX_SHOWN) {
        terminal.line(&format!("      {}: {}", file.path, file.reason))?;
    }
    if count > MAX_SHOWN {
        terminal.line("      … (--json lists the first 100)")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_up_to_date;

    #[test]
    fn mirror_with_run_of_maintenance_is_up_to_date() {
        for (mirrored, computed, last, expected) in [
            (None, Some(1), Some(1), false),
            (Some(1), None, None, false),
            (Some(1), Some(1), Some(1), true),
            (Some(1), Some(2), Some(2), false),
            // Run 3 is one of maintenance.
            (Some(1), Some(2), Some(3), false),
            (Some(2), Some(2), Some(3), true),
            (Some(3), Some(2), Some(3), true),
            // The lake no longer has run 4.
            (Some(4), Some(2), Some(3), false),
        ] {
            let found = is_up_to_date(mirrored, computed, last);
            assert_eq!(found, expected, "{mirrored:?} {computed:?} {last:?}");
        }
    }
}
