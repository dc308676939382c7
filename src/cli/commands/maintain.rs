//! `plantlake maintain`: compacts, expires and deletes files of the lake.

use std::time::Duration;

use super::resample::{bar, job_error, job_setup_error};
use crate::app::{existing_resample_job, resample_job};
use crate::cli::exit::Exit;
use crate::cli::output::{Table, Terminal, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::Settings;
use crate::jobs::{ExpiryOutcome, MaintainOptions, MaintainOutcome, MaintainReport};

const EXAMPLES: &str = "\
Data older than `retention.<raw|minute|hour|day>.keep` is archived or deleted, depending on `.then`. By default, everything is
kept. Raw files expire as a whole, and only when all their readings are in the averages; the averages do not expire with them.

Small files of a partition are compacted to sorted files of up to `maintain.target_file_size`. Files that no published version
has referenced for longer than `maintain.grace` are deleted, and so are files that killed runs left behind. Running queries
continue, and no value changes. Only one run of this command or of `plantlake resample` is active at a time.

Examples:
  Show what would be done:
      plantlake maintain --dry-run

  Maintain the lake, and print the result as JSON:
      plantlake maintain --json

  Each Sunday: uncomment the schedule in jobs/maintain.toml, and run
      plantlake schedule";

/// Compact the files of the tables, expire old data, and delete unused files
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct MaintainArgs {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for MaintainArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let options = MaintainOptions {
            dry_run: self.dry_run,
        };
        let report = run_maintain(&context.settings, &context.terminal, &options).await?;
        if self.json {
            context.terminal.line(&serde_json::to_string(&report)?)?;
        } else {
            print(&context.terminal, &report)?;
        }
        Ok(Exit::Success)
    }
}

async fn run_maintain(
    settings: &Settings,
    terminal: &Terminal,
    options: &MaintainOptions,
) -> anyhow::Result<MaintainReport> {
    let open = match options.dry_run {
        true => existing_resample_job,
        false => resample_job,
    };
    let job = open(settings, bar(terminal, "maintain", "rows")).map_err(job_setup_error)?;
    let result = job.maintain(options).await;
    terminal.end_progress();
    result.map_err(job_error)
}

fn print(terminal: &Terminal, report: &MaintainReport) -> anyhow::Result<()> {
    for note in &report.notes {
        terminal.note(&format!("note: {note}"));
    }
    let took = human::duration(Duration::from_secs_f64(report.seconds));
    match (report.outcome, report.run) {
        (MaintainOutcome::NothingPublished, _) => {
            terminal.line("Nothing is published: run `plantlake resample` first.")?;
            return Ok(());
        }
        (MaintainOutcome::NothingToDo, _) => {
            terminal.line(&format!("Nothing to do ({took})."))?;
            return Ok(());
        }
        (MaintainOutcome::DryRun, _) if !report.has_work() => {
            terminal.line(&format!("Nothing to do ({took})."))?;
            return Ok(());
        }
        (MaintainOutcome::DryRun, _) => terminal.line("Would do:")?,
        (MaintainOutcome::Maintained, Some(run)) => {
            terminal.line(&format!("Run {run} published in {took}."))?;
        }
        (MaintainOutcome::Maintained, None) => terminal.line(&format!("Done in {took}."))?,
    }
    if !report.expired.is_empty() {
        let head = ["expired", "dates", "files", "rows", "bytes", "action"];
        let mut table = Table::new(head).numbers(2..5);
        for expired in &report.expired {
            let (first, last) = (&expired.dates.first, &expired.dates.last);
            let text = |date: &Option<String>| date.clone().unwrap_or_default();
            table.row([
                expired.what.clone(),
                format!("{} to {}", text(first), text(last)),
                human::count(expired.files as u64),
                human::count(expired.rows),
                human::bytes(expired.bytes),
                match expired.fate {
                    ExpiryOutcome::Archived => "archived".to_owned(),
                    ExpiryOutcome::Deleted => "deleted".to_owned(),
                },
            ]);
        }
        terminal.table(&table)?;
    }
    if !report.compacted.is_empty() {
        let head = [
            "compacted",
            "partitions",
            "files before",
            "files after",
            "rows",
            "bytes",
        ];
        let mut table = Table::new(head).numbers(1..6);
        for compacted in &report.compacted {
            table.row([
                compacted.table.clone(),
                human::count(compacted.partitions as u64),
                human::count(compacted.files_before as u64),
                human::count(compacted.files_after as u64),
                human::count(compacted.rows),
                human::bytes(compacted.bytes_before),
            ]);
        }
        terminal.table(&table)?;
    }
    let swept = &report.swept;
    let deleted = match report.outcome {
        MaintainOutcome::DryRun => "Delete",
        _ => "Deleted",
    };
    terminal.line(&format!(
        "{deleted} unused files: {}, {}, {}; {}",
        human::counted(swept.data_files as u64, "data file"),
        human::counted(swept.raw_files as u64, "raw file"),
        human::bytes(swept.bytes),
        human::counted(swept.log_files as u64, "log file"),
    ))?;
    Ok(())
}
