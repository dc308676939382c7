//! `plantlake restore`: restores a backup.

use std::path::PathBuf;

use clap::Args;

use super::administration::instant;
use super::backup::{OnlyArgs, coded};
use super::output::{Table, Unit};
use super::{Context, Exit, RunCommand};
use crate::app::{Put, RestoreReport, restore};
use crate::backup::Part;
use crate::config::Settings;

const EXAMPLES: &str = "\
The backup is put where the settings say: the database to `organisation_url`, files to `catalog`, `jobs`, `keys_dir` and the state
folder, the log of runs to the lake's history. A backup of a SQLite database can become a Postgres database, and the other way
round. Run it as the user that the server runs as: files belong to whoever restores them.

Nothing is overwritten: what is there must be as it is in the backup, or not be there. Everything is compared with its
hashes before anything is written, and the database once more before it is in force. A restore that was killed is repeated, and
goes on with what is missing. No server may be running.

`plantlake backup --help` says what is in a backup, and where the rest comes from.

Examples:
  plantlake restore --from /backup/plantlake.tar.zst
  PLANTLAKE_ORGANISATION_URL=postgres://plantlake@db.example/organisation plantlake restore --from plantlake.tar.zst
  plantlake restore --from /backup/plantlake.tar.zst --only database      # the state folder is still there";

/// Arguments of `restore`.
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
    fn json(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let terminal = &context.terminal;
        let progress = terminal.progress("restore", Unit::Bytes, None);
        let told = |bytes| progress.add(bytes);
        let only = self.only.only.into_iter().collect();
        let restored = restore(&context.settings, &self.from, &only, &told).await;
        drop(progress);
        let report = restored.map_err(coded)?;
        if self.json {
            terminal.line(&serde_json::to_string(&report)?)?;
            return Ok(Exit::Success);
        }
        let head = &report.head;
        let (lake, at) = (&head.lake, instant(head.made_at));
        terminal.line(&format!("backup of {lake} on {}, {at}", head.host))?;
        let mut table = Table::new(["part", "outcome", "where"]);
        for (part, put) in &report.restored {
            table.row([
                part.to_string(),
                match put {
                    Put::Restored => "restored",
                    Put::WasThere => "was there already",
                    Put::Nothing => "nothing in the backup",
                    Put::LeftAlone => "left alone: the lake has runs of its own",
                }
                .to_owned(),
                place_of(&context.settings, *part),
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
fn place_of(settings: &Settings, part: Part) -> String {
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
    let mut steps = vec!["What to do next:".to_owned()];
    let has = |part| report.restored.contains_key(&part);
    if report.restored.get(&Part::Runs) == Some(&Put::Restored) {
        steps.push(
            "  put the raw files back, then `plantlake resample`: it makes the tables".to_owned(),
        );
    }
    if has(Part::Database) {
        let at = instant(report.head.made_at);
        steps.push(format!(
            "  `plantlake audit --last 20`, and do again what was revoked, removed or closed after {at}: it is as it was then"
        ));
    }
    if has(Part::Journal) {
        steps.push("  `plantlake serve`: it takes the rest of the journal into the ledger, and makes the search index".to_owned());
    }
    steps.push("  `plantlake status`".to_owned());
    steps
}
