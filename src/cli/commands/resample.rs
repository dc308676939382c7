//! `plantlake resample`: brings the tables up to date with the raw files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;

use super::status::print_passed_over;
use crate::app::{ResampleJobError, resample_job};
use crate::cli::exit::Exit;
use crate::cli::output::{Progress as Bar, Table, Terminal, Unit, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::{Override, Settings};
use crate::jobs::{JobError, Options, Outcome, Progress, Report};
use crate::lake::records::lease::LeaseError;
use crate::model::{Day, day_from_date};
use crate::rollup::{LeftOut, Reason};

const EXAMPLES: &str = "\
Examples:
  Process files that are new, late, changed or removed since the last run:
      plantlake resample

  Show what would be done:
      plantlake resample --dry-run

  Compute only January 2026; other dates stay due:
      plantlake resample --from 2026-01-01 --to 2026-01-31

  Recompute everything from the raw files, and print the result as JSON:
      plantlake resample --full --json

Unusable readings are left out, and counted by file, under the first of these reasons that applies:
  null_time, time_out_of_range, ambiguous_time, null_id, malformed_id, null_value, nan_value, infinite_value
A file that cannot be read is quarantined: it is listed with the reason, and retried when it changes.
While any file is in quarantine the exit code is 3. Files that are no raw files are passed over and named.";

/// Update the tables of averages from the raw files
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ResampleArgs {
    /// The location of the raw files: a folder or a URL [default: <lake>/raw]
    #[arg(long, value_name = "PATH_OR_URL")]
    raw: Option<String>,
    /// Recompute everything
    #[arg(long)]
    full: bool,
    /// The first UTC date to compute
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// The last UTC date to compute, inclusive
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The error that the first date is after the last.
#[derive(Debug, thiserror::Error)]
#[error("--from {from} must not be after --to {to}")]
struct ReversedDates {
    from: NaiveDate,
    to: NaiveDate,
}

impl RunCommand for ResampleArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    fn overrides(&self) -> Vec<Override> {
        Override::from_flag("raw", "--raw", self.raw.clone())
            .into_iter()
            .collect()
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let options = self.options()?;
        let report = run_job(&context.settings, &context.terminal, &options).await?;
        warn_of_ambiguous_times(&context, &report);
        if self.json {
            context.terminal.line(&serde_json::to_string(&report)?)?;
        } else {
            print(&context.terminal, &report)?;
        }
        Ok(if report.quarantined.is_empty() {
            Exit::Success
        } else {
            Exit::LeftOut
        })
    }
}

impl ResampleArgs {
    fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            full: self.full,
            dates: parse_date_range(self.from, self.to)?,
            dry_run: self.dry_run,
        })
    }
}

/// Warns of readings that are left out because their local time occurs twice.
fn warn_of_ambiguous_times(context: &Context, report: &Report) {
    let mut left_out = report.readings.left_out.iter();
    if let Some((_, count)) = left_out.find(|(reason, _)| *reason == Reason::AmbiguousTime) {
        context.terminal.warn(&format!(
            "{} left out: their local time occurs twice in {}, because clocks are set back, and the order in their files \
             does not show which instant is meant. Write times with a time zone",
            human::counted(count, "reading"),
            context.settings.resample.timezone
        ));
    }
}

/// Returns the first and the last date; `None` if neither is given.
pub(super) fn parse_date_range(
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> anyhow::Result<Option<(Day, Day)>> {
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(Exit::Usage.wrap(ReversedDates { from, to }));
    }
    Ok((from.is_some() || to.is_some()).then(|| {
        (
            from.map_or(i32::MIN, day_from_date),
            to.map_or(i32::MAX - 1, day_from_date),
        )
    }))
}

/// Runs the job with a progress bar.
pub(super) async fn run_job(
    settings: &Settings,
    terminal: &Terminal,
    options: &Options,
) -> anyhow::Result<Report> {
    let job = resample_job(settings, readings_bar(terminal));
    let job = job.map_err(job_setup_error)?;
    let result = job.run(options).await;
    terminal.end_progress();
    result.map_err(job_error)
}

/// Adds the exit code to an error of creating the job.
pub(super) fn job_setup_error(error: ResampleJobError) -> anyhow::Error {
    match error {
        ResampleJobError::Spec(_) => Exit::Usage.wrap(error),
        error => error.into(),
    }
}

/// Adds the exit code to an error of a run.
pub(super) fn job_error(error: JobError) -> anyhow::Error {
    match error {
        JobError::Lease(LeaseError::Held { .. }) => Exit::Refused.wrap(error),
        error => error.into(),
    }
}

/// Returns a progress bar that counts readings.
pub(super) fn readings_bar(terminal: &Terminal) -> Arc<dyn Progress> {
    bar(terminal, "resample", "readings")
}

/// Returns a progress bar of a job.
pub(super) fn bar(
    terminal: &Terminal,
    label: &'static str,
    unit: &'static str,
) -> Arc<dyn Progress> {
    Arc::new(ReadingsBar(terminal.progress(
        label,
        Unit::Count(unit),
        None,
    )))
}

struct ReadingsBar(Bar);

impl Progress for ReadingsBar {
    fn expect(&self, readings: u64) {
        self.0.set_total(readings);
    }

    fn read(&self, readings: u64) {
        self.0.add(readings);
    }
}

/// Prints the report of a run for people.
pub(super) fn print(terminal: &Terminal, report: &Report) -> anyhow::Result<()> {
    let took = human::duration(Duration::from_secs_f64(report.seconds));
    let dates = match (&report.dates.first, &report.dates.last) {
        (Some(first), Some(last)) if report.dates.count == 1 || first == last => first.clone(),
        (Some(first), Some(last)) => format!(
            "{} ({first} to {last})",
            human::counted(report.dates.count as u64, "date")
        ),
        _ => "no dates".to_owned(),
    };
    let files = &report.files;
    let changes = format!(
        "{} new, {} changed, {} removed, {} known",
        human::count(files.new as u64),
        human::count(files.changed as u64),
        human::count(files.removed as u64),
        human::count(files.known as u64)
    );
    match report.outcome {
        Outcome::NothingToDo => terminal.line(&format!(
            "Up to date: {}, nothing to do ({took}).",
            human::counted(files.known as u64, "raw file")
        ))?,
        Outcome::DryRun => {
            terminal.line(&format!("Would compute {dates}; files: {changes}."))?;
            if !report.would_read.is_empty() {
                terminal.line(&format!(
                    "Would read about {} readings from these files:",
                    human::count(report.estimated_readings.unwrap_or(0))
                ))?;
            }
            for path in &report.would_read {
                terminal.line(&format!("  {path}"))?;
            }
        }
        Outcome::Published => {
            let readings = &report.readings;
            terminal.line(&format!(
                "Run {} published: {dates} in {took}.",
                report.run.unwrap_or(0)
            ))?;
            terminal.line(&format!("files     {changes}"))?;
            terminal.line(&format!(
                "readings  {} read, {} used, {} superseded, {} left out",
                human::count(readings.read),
                human::count(readings.used),
                human::count(readings.superseded),
                human::count(readings.left_out.total())
            ))?;
            let rows: Vec<String> = report
                .rows
                .iter()
                .map(|(table, rows)| format!("{table} {}", human::count(*rows)))
                .collect();
            terminal.line(&format!("rows      {}", rows.join(", ")))?;
        }
    }
    print_left_out(terminal, report)
}

fn print_left_out(terminal: &Terminal, report: &Report) -> anyhow::Result<()> {
    const MAX_SHOWN: usize = 10;
    if !report.left_out.is_empty() {
        let mut table = Table::new(["left out of file", "readings", "reasons"]).numbers([1]);
        for file in report.left_out.iter().take(MAX_SHOWN) {
            table.row([
                file.path.clone(),
                human::count(file.reasons.total()),
                reasons(&file.reasons),
            ]);
        }
        terminal.table(&table)?;
        if let Some(more) = report
            .left_out
            .len()
            .checked_sub(MAX_SHOWN)
            .filter(|&more| more > 0)
        {
            terminal.line(&format!("… and {more} more files (--json lists all)"))?;
        }
    }
    print_passed_over(terminal, report.files.passed_over, &report.passed_over)?;
    for file in report.quarantined.iter().take(MAX_SHOWN) {
        terminal.warn(&format!("quarantined: {}", file.reason));
    }
    if let Some(more) = report
        .quarantined
        .len()
        .checked_sub(MAX_SHOWN)
        .filter(|&more| more > 0)
    {
        terminal.warn(&format!(
            "… and {more} more quarantined files (--json lists all)"
        ));
    }
    Ok(())
}

fn reasons(left_out: &LeftOut) -> String {
    let counts: BTreeMap<&str, u64> = left_out
        .iter()
        .map(|(reason, count)| (reason.name(), count))
        .collect();
    counts
        .iter()
        .map(|(reason, count)| format!("{reason} {}", human::count(*count)))
        .collect::<Vec<_>>()
        .join(", ")
}
