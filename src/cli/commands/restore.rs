//! `plantlake restore`: restores a backup.

use std::path::PathBuf;

use clap::Args;

use super::backup::{OnlyArgs, with_exit_code};
use crate::app::{RestoreOutcome, RestoreReport, restore};
use crate::backup::Part;
use crate::cli::administration::format_instant;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, Unit};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::Settings;

const EXAMPLES: &str = "\
The settings determine the destination: the database is restored to `organisation_url`, files to `catalog`, `jobs`, `keys_dir`
and the state folder, and the log of runs to the lake's history. A backup of a SQLite database can be restored to Postgres, and
vice versa. Run the command as the server's user, because restored files belong to the user who restores them.

Nothing is overwritten: existing data must be equal to that in the backup. All hashes are verified before anything is written,
and those of the database again before it is activated. If a restore was killed, repeat it: it continues with what is missing.
No server may be running.

`plantlake backup --help` lists what a backup contains, and how to restore the rest.

Examples:
  plantlake restore --from /backup/plantlake.tar.zst
  PLANTLAKE_ORGANISATION_URL=postgres://plantlake@db.example/organisation plantlake restore --from plantlake.tar.zst
  plantlake restore --from /backup/plantlake.tar.zst --only database      # the state folder is still there";

/// Restore a backup
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    /// The backup file
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    only: OnlyArgs,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for RestoreArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let terminal = &context.terminal;
        let progress = terminal.progress("restore", Unit::Bytes, None);
        let told = |bytes| progress.add(bytes);
        let only = self.only.only.into_iter().collect();
        let restored = restore(&context.settings, &self.from, &only, &told).await;
        drop(progress);
        let report = restored.map_err(with_exit_code)?;
        if self.json {
            terminal.line(&serde_json::to_string(&report)?)?;
            return Ok(Exit::Success);
        }
        let head = &report.head;
        let (lake, at) = (&head.lake, format_instant(head.made_at));
        terminal.line(&format!("backup of {lake} on {}, {at}", head.host))?;
        let mut table = Table::new(["part", "outcome", "where"]);
        for (part, put) in &report.restored {
            table.row([
                part.to_string(),
                match put {
                    RestoreOutcome::Restored => "restored",
                    RestoreOutcome::WasThere => "already present",
                    RestoreOutcome::Nothing => "not in the backup",
                    RestoreOutcome::LeftAlone => "skipped: the lake has runs of its own",
                }
                .to_owned(),
                destination(&context.settings, *part),
            ]);
        }
        terminal.table(&table)?;
        for line in next_steps(&report) {
            terminal.note(&line);
        }
        Ok(Exit::Success)
    }
}

/// Returns the destination of a part.
fn destination(settings: &Settings, part: Part) -> String {
    match part {
        Part::Catalog => settings.catalog.display().to_string(),
        Part::Jobs => settings.jobs.display().to_string(),
        Part::Keys => settings.auth.keys_dir.display().to_string(),
        Part::Runs => format!(
            "{}/history",
            settings.lake.to_string().trim_end_matches('/')
        ),
        Part::Journal => settings.state.join("journal").display().to_string(),
        Part::Database => settings.organisation_url.to_string(),
    }
}

/// Returns the steps that the operator should take next.
fn next_steps(report: &RestoreReport) -> Vec<String> {
    let mut steps = vec!["Next steps:".to_owned()];
    let has = |part| report.restored.contains_key(&part);
    if report.restored.get(&Part::Runs) == Some(&RestoreOutcome::Restored) {
        steps.push(
            "  restore the raw files, then run `plantlake resample` to compute the tables"
                .to_owned(),
        );
    }
    if has(Part::Database) {
        let at = format_instant(report.head.made_at);
        steps.push(format!(
            "  repeat what was revoked, removed or closed after {at}; see `plantlake audit --last 20`"
        ));
    }
    if has(Part::Journal) {
        steps.push("  run `plantlake serve`: it writes the journal to the ledger, and builds the search index".to_owned());
    }
    steps.push("  check the result with `plantlake status`".to_owned());
    steps
}
