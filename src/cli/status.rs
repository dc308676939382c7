//! `plantlake status`: raw files, tables and last runs at a glance.

use std::time::Duration;

use serde::Serialize;

use super::output::{Table, human};
use super::{Context, Exit, RunCommand};
use crate::jobs::{Status, status};
use crate::lake::Store;

const EXAMPLES: &str = "\
Examples:
  plantlake status
  plantlake --lake s3://plant/lake status --runs 30
  plantlake status --json | jq .raw.quarantined";

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// How many of the last runs to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    lake: String,
    #[serde(flatten)]
    status: &'a Status,
}

impl RunCommand for StatusArgs {
    fn json(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let settings = &context.settings;
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        let raw = Store::open_existing(&settings.raw, settings.storage.options())?;
        let status = status(&lake, &raw, self.runs).await?;
        let terminal = &context.terminal;
        if self.json {
            terminal.line(&serde_json::to_string(&Printed {
                lake: lake.to_string(),
                status: &status,
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
        Ok(Exit::Success)
    }
}
