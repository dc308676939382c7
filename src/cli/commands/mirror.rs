//! `plantlake mirror`: makes the mirror in Postgres equal to the published tables.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::Exit;
use crate::cli::output::{Progress as Bar, Table, Terminal, Unit, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::Settings;
use crate::lake::Store;
use crate::lake::delta::table_columns::current_schema;
use crate::mirror::{
    AssetReport, Mirror, MirrorError, Options, Outcome, Progress, Report, TableReport,
};
use crate::model::with_causes;

const EXAMPLES: &str = "\
The setting `mirror_url` names the database; the first run creates the tables assets, data_min, data_h and data_d. The mirror
contains the averages of the last 7 days by minute, 90 days by hour and 5 years by day (`mirror.window_min` and the related
settings), as the last finished run published them, and the catalog's assets. Readers see all of a run or nothing of it.

Examples:
  After each run of the job, mirror what changed:
      plantlake resample && plantlake mirror

  Show what would be done:
      plantlake mirror --dry-run

  Compare every row in the windows, after someone changed the mirror, and print the result as JSON:
      plantlake mirror --full --json

  Query the mirror:
      psql postgres://reader@db.example/chemical -c 'SELECT * FROM data_h ORDER BY timestamp DESC LIMIT 10'

Assets with readings that are not in the catalog get placeholders, and are listed. While Postgres is unavailable, the run is
retried (`mirror.retry_for`). While the catalog is invalid, the assets stay unchanged, and the exit code is 3.";

/// Update the mirror in Postgres from the tables, inside its windows
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct MirrorArgs {
    /// Compare everything in the windows, not only what changed since the last run
    #[arg(long)]
    full: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The error that no mirror is configured.
#[derive(Debug, thiserror::Error)]
#[error(
    "no mirror is configured; set `mirror_url`, such as postgres://plantlake@db.example/chemical, or the variables DB_*"
)]
struct NoMirror;

impl RunCommand for MirrorArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let options = Options {
            full: self.full,
            dry_run: self.dry_run,
        };
        let report = run_mirror(&context.settings, &context.terminal, &options).await?;
        if self.json {
            context.terminal.line(&serde_json::to_string(&report)?)?;
        } else {
            print(&context.terminal, &report)?;
        }
        Ok(match report.assets.catalog_problem {
            None => Exit::Success,
            Some(_) => Exit::LeftOut,
        })
    }
}

/// Runs the mirror with a progress bar.
async fn run_mirror(
    settings: &Settings,
    terminal: &Terminal,
    options: &Options,
) -> anyhow::Result<Report> {
    let url = settings.mirror_url.clone();
    let url = url.ok_or_else(|| Exit::Usage.wrap(NoMirror))?;
    let mirror = Mirror {
        lake: Store::open_existing_lake(&settings.lake, settings.storage.options())?,
        catalog: settings.catalog.clone(),
        url,
        settings: settings.mirror.clone(),
        schema: current_schema().clone(),
        progress: Arc::new(RowsBar {
            bar: terminal.progress("mirror", Unit::Count("rows"), None),
            terminal: terminal.clone(),
        }),
    };
    let result = mirror.run(options).await;
    drop(mirror);
    terminal.end_progress();
    result.map_err(|error| match error {
        MirrorError::Held { .. } => Exit::Refused.wrap(error),
        error => error.into(),
    })
}

struct RowsBar {
    bar: Bar,
    terminal: Terminal,
}

impl Progress for RowsBar {
    fn expect(&self, rows: u64) {
        self.bar.set_total(rows);
    }

    fn sent(&self, rows: u64) {
        self.bar.add(rows);
    }

    fn retrying(&self, problem: &MirrorError, wait: Duration) {
        let text = with_causes(problem);
        let wait = human::duration(wait);
        self.terminal.warn(&format!("{text}; retrying in {wait}"));
    }
}

fn print(terminal: &Terminal, report: &Report) -> anyhow::Result<()> {
    for note in &report.notes {
        terminal.note(&format!("note: {note}"));
    }
    let run = report.run.unwrap_or(0);
    let took = human::duration(Duration::from_secs_f64(report.seconds));
    let mirror = &report.mirror;
    match report.outcome {
        Outcome::NothingPublished => {
            terminal.line(&format!(
                "Nothing is published in {}: run `plantlake resample` first. The mirror is unchanged.",
                report.lake
            ))?;
            return Ok(());
        }
        Outcome::DryRun => terminal.line(&format!("Would mirror run {run} to {mirror}:"))?,
        Outcome::NothingToDo => terminal.line(&format!(
            "Up to date: {mirror} has run {run}, nothing to do ({took})."
        ))?,
        Outcome::Mirrored => {
            terminal.line(&format!("Run {run} mirrored to {mirror} in {took}."))?;
        }
    }
    match report.outcome {
        Outcome::DryRun => terminal.table(&planned_table(&report.tables))?,
        Outcome::Mirrored => terminal.table(&mirrored_table(&report.tables))?,
        Outcome::NothingToDo | Outcome::NothingPublished => {}
    }
    print_assets(terminal, &report.assets)
}

fn planned_table(tables: &[TableReport]) -> Table {
    let mut planned = Table::new(["table", "from", "dates", "rows at most"]).numbers([2, 3]);
    for table in tables {
        planned.row([
            table.table.to_owned(),
            table.from.clone(),
            human::count(table.dates as u64),
            human::count(table.sent),
        ]);
    }
    planned
}

fn mirrored_table(tables: &[TableReport]) -> Table {
    let head = [
        "table", "from", "dates", "sent", "deleted", "inserted", "pruned", "took", "rate",
    ];
    let mut done = Table::new(head).numbers(2..9);
    for table in tables {
        done.row([
            table.table.to_owned(),
            table.from.clone(),
            human::count(table.dates as u64),
            human::count(table.sent),
            human::count(table.deleted),
            human::count(table.inserted),
            human::count(table.pruned),
            human::duration(Duration::from_secs_f64(table.seconds)),
            human::rate(table.rows_per_second, "rows"),
        ]);
    }
    done
}

fn print_assets(terminal: &Terminal, assets: &AssetReport) -> anyhow::Result<()> {
    const MAX_SHOWN: usize = 10;
    if assets.added + assets.changed + assets.removed > 0 {
        terminal.line(&format!(
            "assets  {} added, {} changed, {} removed",
            human::count(assets.added),
            human::count(assets.changed),
            human::count(assets.removed)
        ))?;
    }
    if let Some(problem) = &assets.catalog_problem {
        terminal.warn(&format!(
            "the assets in the mirror stay unchanged, because the catalog is invalid: {problem}"
        ));
    }
    if assets.unknown.is_empty() {
        return Ok(());
    }
    let count = human::counted(assets.unknown.len() as u64, "asset");
    terminal.warn(&format!(
        "{count} with readings, but without an entry in the catalog:"
    ));
    for asset in assets.unknown.iter().take(MAX_SHOWN) {
        terminal.warn(&format!("  {asset}"));
    }
    if let Some(more) = assets
        .unknown
        .len()
        .checked_sub(MAX_SHOWN)
        .filter(|&more| more > 0)
    {
        terminal.warn(&format!("… and {more} more (--json lists all)"));
    }
    Ok(())
}
