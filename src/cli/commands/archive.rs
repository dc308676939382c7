//! `plantlake archive`: lists archived data, and restores it.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::resample::{bar, job_error, job_setup_error, parse_date_range};
use crate::app::existing_resample_job;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, Terminal, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::parse_duration;
use crate::jobs::{
    ArchiveContents, DateSpan, NotRestoredReason, RestoreOutcome, RestoreReport, RestoreRequest,
};
use crate::model::{DateSet, Resolution};

const EXAMPLES: &str = "\
`plantlake maintain` moves data older than `retention.<raw|minute|hour|day>.keep` to the archive, if `.then` is \"archive\".
Archived averages can be queried: SELECT * FROM archive.data_h.

Examples:
  List archived data, and restored data that is held:
      plantlake archive list

  Restore the hours of 2024 to data_h for two months; whole months are restored:
      plantlake archive restore data_h --from 2024-01-01 --to 2024-12-31 --hold 60d

  Show the raw files with readings of a week in May that would be restored, as whole files:
      plantlake archive restore raw --from 2024-05-06 --to 2024-05-12 --dry-run

Restored data stays until the first `plantlake maintain` after the hold (30 days by default), which expires it again if it is
still older than its retention time. With `--hold 0s`, that is the next `plantlake maintain`.";

/// List archived data, and restore it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ArchiveArgs {
    #[command(subcommand)]
    what: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List archived data
    List(ListArgs),
    /// Restore archived data of a range of dates
    Restore(RestoreArgs),
}

/// Arguments of `archive list`.
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    dates: Dates,
    /// Print the result as JSON, with each raw file
    #[arg(long)]
    json: bool,
}

/// Arguments of `archive restore`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("range").args(["from", "to"]).required(true).multiple(true))]
struct RestoreArgs {
    /// The table to restore, or raw for the raw files
    what: Archived,
    #[command(flatten)]
    dates: Dates,
    /// The time for which the restored data does not expire again, such as 12h or 90d
    #[arg(long, default_value = "30d", value_parser = hold)]
    hold: TimeDelta,
    /// Only show what would be restored
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Dates {
    /// The first UTC date
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// The last UTC date, inclusive
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Archived {
    #[value(name = "raw")]
    Raw,
    #[value(name = "data_min")]
    Minutes,
    #[value(name = "data_h")]
    Hours,
    #[value(name = "data_d")]
    Days,
}

fn hold(text: &str) -> Result<TimeDelta, String> {
    parse_duration(text, TimeDelta::zero()..=TimeDelta::days(36_500))
        .map_err(|problem| format!("{problem}; write a duration such as 12h or 90d"))
}

impl Dates {
    fn set(&self) -> anyhow::Result<DateSet> {
        let (first, last) =
            parse_date_range(self.from, self.to)?.unwrap_or((i32::MIN, i32::MAX - 1));
        Ok(DateSet::range(first, last))
    }
}

impl RunCommand for ArchiveArgs {
    fn is_machine_output(&self) -> bool {
        match &self.what {
            Action::List(args) => args.json,
            Action::Restore(args) => args.json,
        }
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self.what {
            Action::List(args) => list(args, &context).await,
            Action::Restore(args) => restore(args, &context).await,
        }
    }
}

async fn list(args: ListArgs, context: &Context) -> anyhow::Result<Exit> {
    let terminal = &context.terminal;
    let dates = args.dates.set()?;
    let job = existing_resample_job(&context.settings, bar(terminal, "archive", "files"))
        .map_err(job_setup_error)?;
    let contents = job.archive_contents(&dates).await;
    terminal.end_progress();
    let contents = contents.map_err(job_error)?;
    if args.json {
        terminal.line(&serde_json::to_string(&contents)?)?;
    } else {
        print_contents(terminal, &contents)?;
    }
    Ok(Exit::Success)
}

async fn restore(args: RestoreArgs, context: &Context) -> anyhow::Result<Exit> {
    let terminal = &context.terminal;
    let restore = RestoreRequest {
        table: match args.what {
            Archived::Raw => None,
            Archived::Minutes => Some(Resolution::Minute),
            Archived::Hours => Some(Resolution::Hour),
            Archived::Days => Some(Resolution::Day),
        },
        dates: args.dates.set()?,
        hold: args.hold,
        dry_run: args.dry_run,
    };
    let job = existing_resample_job(&context.settings, bar(terminal, "restore", "rows"))
        .map_err(job_setup_error)?;
    let report = job.restore(&restore).await;
    terminal.end_progress();
    let report = report.map_err(job_error)?;
    if args.json {
        terminal.line(&serde_json::to_string(&report)?)?;
    } else {
        print_restored(terminal, &report)?;
    }
    Ok(match report.left_in_archive.is_empty() {
        true => Exit::Success,
        false => Exit::LeftOut,
    })
}

fn span(dates: &DateSpan) -> String {
    match (&dates.first, &dates.last) {
        (Some(first), Some(last)) if first == last => first.clone(),
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none".to_owned(),
    }
}

fn print_contents(terminal: &Terminal, contents: &ArchiveContents) -> anyhow::Result<()> {
    if contents.archived.is_empty() {
        terminal.line("Nothing is archived.")?;
    } else {
        let head = ["archived", "dates", "files", "rows", "size"];
        let mut table = Table::new(head).numbers(2..5);
        for it in &contents.archived {
            table.row([
                it.what.clone(),
                span(&it.dates),
                human::count(it.files as u64),
                human::count(it.rows),
                human::bytes(it.bytes),
            ]);
        }
        terminal.table(&table)?;
    }
    for held in &contents.held {
        terminal.line(&format!(
            "{} of {} is restored, and held until {}",
            held.what, held.dates, held.until
        ))?;
    }
    if contents.sealed.count > 0 {
        terminal.line(&format!(
            "{} sealed ({}): the raw files were deleted",
            human::counted(contents.sealed.count as u64, "date"),
            span(&contents.sealed)
        ))?;
    }
    Ok(())
}

fn print_restored(terminal: &Terminal, report: &RestoreReport) -> anyhow::Result<()> {
    let what = format!(
        "{} of {} ({}): {} rows in {}, {}",
        human::counted(report.dates.count as u64, "date"),
        report.what,
        span(&report.dates),
        human::count(report.rows),
        human::counted(report.files as u64, "file"),
        human::bytes(report.bytes)
    );
    match report.outcome {
        RestoreOutcome::NothingArchived if report.left_in_archive.is_empty() => {
            terminal.line(&format!(
                "No data of {} is archived for these dates; `plantlake archive list` shows what is archived.",
                report.what
            ))?
        }
        RestoreOutcome::NothingArchived => terminal.line("Nothing was restored.")?,
        RestoreOutcome::DryRun => terminal.line(&format!("Would restore {what}."))?,
        RestoreOutcome::Restored => {
            let took = human::duration(Duration::from_secs_f64(report.seconds));
            terminal.line(&format!(
                "Run {} restored {what} in {took}.",
                report.run.unwrap_or(0)
            ))?;
            if let Some(until) = &report.held_until {
                terminal.line(&format!("It is held until {until}."))?;
            }
        }
    }
    for left in &report.left_in_archive {
        let because = match left.reason {
            NotRestoredReason::PathTaken => {
                "another raw file has this path, or is restored to it; move that file, and restore again"
            }
            NotRestoredReason::Damaged => {
                "its archived copy is missing or damaged; restore it from a copy of the archive"
            }
        };
        terminal.warn(&format!("cannot restore {}: {because}", left.path));
    }
    Ok(())
}
