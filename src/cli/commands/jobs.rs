//! `plantlake jobs`: lists the declared jobs, their schedules and their runs.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::{job_kinds, read_jobs};
use crate::cli::administration::{format_instant, format_optional_minute, open_if_exists};
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::clock;
use crate::model::JobSpec;
use crate::store::JobRun;

/// The number of next times that are printed as JSON.
const NEXT_TIMES: usize = 5;

const EXAMPLES: &str = "\
Examples:
  plantlake jobs
      Lists each job with its schedule, last run and next time. An error in a file is reported with its line.
  plantlake jobs history
  plantlake jobs history resample --last 100 --json

A job is a file jobs/<name>.toml:
  kind = \"resample\"            # {kinds}; by default the name of the file
  schedule = \"*/15 * * * *\"    # minute, hour, day of the month (L is the last), month, weekday
  timezone = \"Europe/Berlin\"   # [default: UTC]
  timeout = \"1h\"               # of one attempt [default: 1h]
  retries = 2                  # [default: 2]
  backoff = \"1min\"             # before the first retry, and twice as long before each further one [default: 1min]
  missed = \"once\"              # or \"skip\": how missed times are handled [default: once]
  after = [\"resample\"]         # waits for that job's run of the same time, and is skipped if it fails
  [arguments]                  # {arguments}

Times skipped by daylight saving run right afterwards; of times that occur twice, the first one runs. Schedules without a fixed
hour (*/15 * * * *) run at constant intervals.";

/// Returns the examples with the kinds of jobs and their arguments.
fn examples() -> String {
    let kinds = job_kinds();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    // Kinds with the same arguments are listed together.
    let mut groups: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for kind in &kinds {
        let arguments: Vec<&str> = kind.arguments().iter().map(|(name, _)| *name).collect();
        match groups.iter_mut().find(|(_, known)| *known == arguments) {
            _ if arguments.is_empty() => {}
            Some((kinds, _)) => kinds.push(kind.name()),
            None => groups.push((vec![kind.name()], arguments)),
        }
    }
    let groups = groups.iter().map(|(kinds, arguments)| {
        let (kinds, arguments) = (join_words(kinds, "and"), arguments.join(", "));
        format!("of {kinds}: {arguments}")
    });
    let groups: Vec<String> = groups.collect();
    EXAMPLES
        .replace("{kinds}", &join_words(&names, "or"))
        .replace("{arguments}", &groups.join("; "))
}

/// Joins words with commas, and the last two with `conjunction`.
fn join_words(words: &[&str], conjunction: &str) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => {
            format!("{} {conjunction} {last}", first.join(", "))
        }
        _ => words.concat(),
    }
}

/// List the declared jobs, their schedules and their runs
#[derive(Debug, Args)]
#[command(after_help = examples())]
pub struct JobsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the last runs
    History {
        /// Only this job
        job: Option<String>,
        /// The number of runs to show
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: u64,
    },
}

/// A job, as `--json` prints it.
#[derive(Serialize)]
struct JobOutput<'a> {
    job: &'a str,
    kind: &'static str,
    schedule: Option<&'a str>,
    timezone: Option<&'static str>,
    next: Vec<String>,
    after: &'a [String],
    last_run: Option<&'a JobRun>,
}

impl RunCommand for JobsArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self.action {
            Some(Action::History { job, last }) => history(&context, job, last, self.json).await,
            None => list(&context, self.json).await,
        }
    }
}

async fn list(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let folder = &context.settings.jobs;
    let specs = read_jobs(folder).map_err(|error| Exit::Usage.wrap(error))?;
    // Before the first run, there may be no database.
    let runs = match open_if_exists(context).await? {
        Some(store) => store.last_job_runs().await?,
        None => Vec::new(),
    };
    let runs: BTreeMap<&str, &JobRun> = runs.iter().map(|run| (run.job.as_str(), run)).collect();
    let now = clock::now();
    let terminal = &context.terminal;
    if json {
        let printed: Vec<JobOutput<'_>> = specs
            .iter()
            .map(|spec| JobOutput {
                job: &spec.name,
                kind: spec.kind.name(),
                schedule: spec.schedule.as_ref().map(|schedule| schedule.expression()),
                timezone: spec
                    .schedule
                    .as_ref()
                    .map(|schedule| schedule.zone().name()),
                next: next_times(spec, now).map(format_instant).collect(),
                after: &spec.after,
                last_run: runs.get(spec.name.as_str()).copied(),
            })
            .collect();
        terminal.line(&serde_json::to_string(&printed)?)?;
        return Ok(Exit::Success);
    }
    if specs.is_empty() {
        terminal.line(&format!(
            "No jobs are declared in {}; `plantlake jobs --help` describes job files.",
            folder.display()
        ))?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new([
        "job",
        "kind",
        "schedule",
        "zone",
        "last start",
        "took",
        "result",
        "next (UTC)",
    ]);
    for spec in &specs {
        let last = runs.get(spec.name.as_str()).copied();
        table.row([
            spec.name.clone(),
            spec.kind.to_string(),
            spec.schedule
                .as_ref()
                .map_or("by hand", |schedule| schedule.expression())
                .to_owned(),
            spec.schedule
                .as_ref()
                .map_or("", |schedule| schedule.zone().name())
                .to_owned(),
            format_optional_minute(last.map(|run| run.started_at)),
            last.map(format_elapsed).unwrap_or_default(),
            last.map_or("", |run| run.status.name()).to_owned(),
            format_optional_minute(next_times(spec, now).next()),
        ]);
    }
    terminal.table(&table)?;
    for run in runs.values().filter(|run| run.status.is_failure()) {
        let error = run.error.as_deref().unwrap_or_default();
        terminal.line(&format!("{}: {error}", run.job))?;
    }
    Ok(Exit::Success)
}

/// Returns the next times at which the job is due.
fn next_times(spec: &JobSpec, now: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let next = move |after: DateTime<Utc>| {
        spec.schedule
            .as_ref()
            .and_then(|schedule| schedule.next_after(after))
    };
    std::iter::successors(next(now), move |at| next(*at)).take(NEXT_TIMES)
}

async fn history(
    context: &Context,
    job: Option<String>,
    last: u64,
    json: bool,
) -> anyhow::Result<Exit> {
    let runs = match open_if_exists(context).await? {
        Some(store) => store.job_runs(job, last).await?,
        None => Vec::new(),
    };
    let terminal = &context.terminal;
    if json {
        terminal.line(&serde_json::to_string(&runs)?)?;
        return Ok(Exit::Success);
    }
    if runs.is_empty() {
        terminal.line("No job has run yet.")?;
        return Ok(Exit::Success);
    }
    let head = [
        "job", "due", "started", "took", "result", "tries", "rows", "host", "error",
    ];
    let mut table = Table::new(head).numbers([5, 6]);
    for run in &runs {
        let due = if run.by_hand {
            "by hand".to_owned()
        } else {
            format_instant(run.scheduled_for)
        };
        table.row([
            run.job.clone(),
            due,
            format_instant(run.started_at),
            format_elapsed(run),
            run.status.name().to_owned(),
            run.attempt.to_string(),
            run.rows.map(human::count).unwrap_or_default(),
            format!("{} ({})", run.host, run.pid),
            run.error.clone().unwrap_or_default(),
        ]);
    }
    terminal.table(&table)?;
    Ok(Exit::Success)
}

fn format_elapsed(run: &JobRun) -> String {
    let took = run
        .ended_at
        .map(|end| (end - run.started_at).to_std().unwrap_or(Duration::ZERO));
    took.map(human::duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_list_kinds_and_their_arguments() {
        let examples = examples();
        for line in [
            "# resample, mirror, index or maintain; by default the name of the file\n",
            "# of resample: full, from, to; of mirror and index: full\n",
        ] {
            assert!(examples.contains(line), "{examples}");
        }
    }
}
