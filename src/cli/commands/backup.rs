//! `plantlake backup`: backs up the data that cannot be recomputed to one file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};

use crate::app::{BackupFailure, BackupReport, back_up, check};
use crate::backup::Part;
use crate::cli::administration::format_instant;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, Terminal, Unit, human};
use crate::cli::run_command::{Context, RunCommand};

const EXAMPLES: &str = "\
A backup contains:
  catalog    assets, graph and views
  jobs       jobs/*.toml
  keys       the keys that sign tokens
  runs       the log of the lake's runs
  journal    requests of this state folder that may not be in the ledger yet
  database   organisations, users, hashes of passwords and keys, grants, limits, audit, ledger, closed months, jobs' history

Servers and jobs keep running. The backup contains every request whose client had received its complete result when the backup
began. An older backup of the same name stays until the new one is complete. Each server has its own journal: make the backup
on one server, and a backup with `--only journal` on each of the others.

A backup does not contain:
  raw files             copy them with their modification times (rsync -a, cp -p): of two readings, the later file's wins
  tables                `plantlake resample` recomputes them from the raw files, as long as all of these exist
  archive               expired data (`plantlake archive list`): once data has expired, copy the whole folder of the lake, too
  search index, models  rebuilt and fetched automatically, or by `plantlake index` and `plantlake models fetch`
  plantlake.toml, TLS   keep your own copies of settings and certificates

Only you can read the file, because it contains password hashes and keys. Encrypt it before it leaves the machine. It is a
tar archive: `tar --zstd -tf FILE` lists it.

Examples:
  plantlake backup --to /backup/plantlake.tar.zst
  plantlake backup --to \"/backup/plantlake-$(date +%F).tar.zst\"         # each night, by cron
  plantlake backup --check /backup/plantlake.tar.zst                    # verify it, and list its contents
  plantlake restore --from /backup/plantlake.tar.zst";

/// Back up the data that cannot be recomputed to one file, or check such a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("what").required(true))]
pub struct BackupArgs {
    /// Write a backup to this file
    #[arg(long, value_name = "FILE", group = "what")]
    to: Option<PathBuf>,
    /// Read this backup completely, and show its contents
    #[arg(long, value_name = "FILE", group = "what", conflicts_with = "only")]
    check: Option<PathBuf>,
    #[command(flatten)]
    only: OnlyArgs,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// The parts that a backup or a restore is limited to.
#[derive(Debug, Args)]
pub(super) struct OnlyArgs {
    /// Only these parts, separated by commas
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = part())]
    pub(super) only: Vec<Part>,
}

fn part() -> impl TypedValueParser<Value = Part> {
    PossibleValuesParser::new(Part::ALL.map(Part::name)).try_map(|name| name.parse::<Part>())
}

impl RunCommand for BackupArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let terminal = &context.terminal;
        let report = match (&self.check, &self.to) {
            (Some(file), _) => check(file)?,
            (None, Some(file)) => {
                let parts = match self.only.only.is_empty() {
                    true => Part::ALL.into_iter().collect(),
                    false => self.only.only.into_iter().collect(),
                };
                write(&context, file, &parts).await?
            }
            (None, None) => return Ok(Exit::Usage),
        };
        if self.json {
            terminal.line(&serde_json::to_string(&report)?)?;
            return Ok(Exit::Success);
        }
        print(terminal, &report)?;
        if self.check.is_some() {
            terminal.line("The backup is complete and undamaged.")?;
        }
        Ok(Exit::Success)
    }
}

async fn write(
    context: &Context,
    file: &Path,
    parts: &BTreeSet<Part>,
) -> anyhow::Result<BackupReport> {
    let settings = &context.settings;
    let progress = context.terminal.progress("backup", Unit::Bytes, None);
    let told = |bytes| progress.add(bytes);
    let written = back_up(settings, file, parts, &told).await;
    drop(progress);
    let report = written.map_err(with_exit_code)?;
    for (part, folder) in [
        (Part::Catalog, &settings.catalog),
        (Part::Keys, &settings.auth.keys_dir),
    ] {
        let is_empty =
            |contents: &crate::app::PartReport| contents.part == part && contents.files == 0;
        if report.contents.iter().any(is_empty) {
            let folder = folder.display();
            context.terminal.warn(&format!(
                "the backup contains no {part}: {folder} has no files"
            ));
        }
    }
    Ok(report)
}

/// Adds the exit code to a failure.
pub(super) fn with_exit_code(failure: BackupFailure) -> anyhow::Error {
    match failure {
        failure @ (BackupFailure::Serving(_) | BackupFailure::Restoring(_)) => {
            Exit::Refused.wrap(failure)
        }
        failure @ (BackupFailure::NoPart { .. } | BackupFailure::NoDatabase(_)) => {
            Exit::Usage.wrap(failure)
        }
        failure => failure.into(),
    }
}

fn print(terminal: &Terminal, report: &BackupReport) -> anyhow::Result<()> {
    let head = &report.head;
    terminal.line(&format!(
        "{}, {}: backup of {} on {}, {}, by plantlake {}",
        report.file.display(),
        human::bytes(report.bytes),
        head.lake,
        head.host,
        format_instant(head.made_at),
        head.program,
    ))?;
    let mut table = Table::new(["part", "files", "bytes", "rows"]).numbers(1..4);
    for contents in &report.contents {
        let rows = match contents.part {
            Part::Database => human::count(report.rows.values().sum()),
            _ => String::new(),
        };
        table.row([
            contents.part.to_string(),
            human::count(contents.files as u64),
            human::bytes(contents.bytes),
            rows,
        ]);
    }
    terminal.table(&table)?;
    Ok(())
}
