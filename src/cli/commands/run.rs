//! `plantlake run`: runs one declared job now.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::resample::readings_bar;
use crate::app::{jobs, read_jobs, worker};
use crate::cli::administration::{format_instant, open};
use crate::cli::exit::Exit;
use crate::cli::output::human;
use crate::cli::run_command::{Context, RunCommand};
use crate::clock::Stopwatch;
use crate::model::JobSpec;
use crate::scheduler::{FailureCause, RunOnceOutcome, StopSender, run_once};
use crate::store::{JobRun, RunStatus};

const EXAMPLES: &str = "\
Runs a job by hand, or from cron, systemd or Kubernetes. The job's arguments, timeout and retries apply; its schedule and
`after` do not. The run is recorded in the history (`plantlake jobs history`), and a failure is reported to the webhook.

Only one run of a job is active at a time, on all machines that share the organisation database; exit code 4 means that the job
is already running. A run whose process has died is detected within 30 seconds.

Examples:
  plantlake run resample
  plantlake run resample --json | jq .summary";

/// Run one declared job now, and record the run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The job: the name of its file without .toml
    #[arg(value_name = "JOB")]
    job: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The error that there is no such job.
#[derive(Debug, thiserror::Error)]
#[error("no job {name:?} in {folder}; {declared}")]
struct UnknownJob {
    name: String,
    folder: String,
    declared: String,
}

/// The error that the job is running already.
#[derive(Debug, thiserror::Error)]
#[error(
    "the job {} is already running: process {} on {}, since {}; wait until it ends, or stop it",
    .0.job, .0.pid, .0.host, format_instant(.0.started_at)
)]
struct AlreadyRunning(Box<JobRun>);

/// The error of a run that failed, took too long or was lost.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RunFailed(String);

impl RunCommand for RunArgs {
    const HANDLES_INTERRUPT: bool = true;

    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let settings = &context.settings;
        let specs = read_jobs(&settings.jobs).map_err(|error| Exit::Usage.wrap(error))?;
        let spec = find(&specs, &self.job, &settings.jobs)?;
        let store = open(&context).await?;
        let progress = readings_bar(&context.terminal);
        let worker = worker(settings, store, jobs(settings, &progress, None))?;
        let stopper = StopSender::default();
        let stop = stopper.subscribe();
        let interrupt = context.interrupt.clone();
        let asked = tokio::spawn(async move {
            interrupt.wait().await;
            stopper.stop();
            // A dropped stopper could not ask the job to stop any more.
            std::future::pending::<()>().await;
        });
        let watch = Stopwatch::start();
        let ran = run_once(&worker, spec, stop).await;
        asked.abort();
        context.terminal.end_progress();
        self.report(&context, ran?, watch.elapsed())
    }
}

fn find<'a>(
    specs: &'a [JobSpec],
    name: &str,
    folder: &std::path::Path,
) -> anyhow::Result<&'a JobSpec> {
    let unknown = || {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        Exit::Usage.wrap(UnknownJob {
            name: name.to_owned(),
            folder: folder.display().to_string(),
            declared: match names.is_empty() {
                true => "no jobs are declared there".to_owned(),
                false => format!("the declared jobs are {}", names.join(", ")),
            },
        })
    };
    specs
        .iter()
        .find(|spec| spec.name == name)
        .ok_or_else(unknown)
}

impl RunArgs {
    fn report(
        &self,
        context: &Context,
        ran: RunOnceOutcome,
        took: Duration,
    ) -> anyhow::Result<Exit> {
        let (status, outcome, error, cause) = match ran {
            RunOnceOutcome::Completed {
                status,
                outcome,
                error,
                cause,
            } => (status, outcome, error, cause),
            RunOnceOutcome::AlreadyRunning(_) if context.interrupt.is_requested() => {
                return Ok(Exit::Interrupted);
            }
            RunOnceOutcome::AlreadyRunning(run) => {
                return Err(Exit::Refused.wrap(AlreadyRunning(run)));
            }
            RunOnceOutcome::TakenOver => {
                let why = "the run was aborted: its heartbeat could not be written to the organisation database";
                return Err(RunFailed(why.to_owned()).into());
            }
        };
        if self.json {
            let printed = json!({
                "job": self.job, "status": status, "rows": outcome.rows, "error": error,
                "seconds": took.as_secs_f64(), "summary": outcome.summary,
            });
            context.terminal.line(&printed.to_string())?;
        }
        let why = error.unwrap_or_default();
        match status {
            RunStatus::Ok => {
                if !self.json {
                    let took = human::duration(took);
                    let rows = outcome
                        .rows
                        .map(|rows| format!(", {}", human::counted(rows, "row")));
                    let line = format!("{} is done ({took}{})", self.job, rows.unwrap_or_default());
                    context.terminal.line(&line)?;
                }
                Ok(if outcome.left_out {
                    Exit::LeftOut
                } else {
                    Exit::Success
                })
            }
            RunStatus::Aborted => Ok(Exit::Interrupted),
            _ if cause == FailureCause::Busy => Err(Exit::Refused.wrap(RunFailed(why))),
            _ if cause == FailureCause::Settings => {
                let why = format!("cannot run the job {}: {why}", self.job);
                Err(Exit::Usage.wrap(RunFailed(why)))
            }
            RunStatus::TimedOut => {
                Err(RunFailed(format!("the job {} timed out: {why}", self.job)).into())
            }
            _ => Err(RunFailed(format!("the job {} failed: {why}", self.job)).into()),
        }
    }
}
