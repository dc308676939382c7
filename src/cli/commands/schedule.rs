//! `plantlake schedule`: runs jobs when they are due.

use clap::Args;
use serde_json::json;

use super::serve::{monitoring_error, schedule_error};
use crate::app::{Monitoring, ScheduleRunner};
use crate::cli::exit::Exit;
use crate::cli::run_command::{Context, RunCommand};
use crate::scheduler::StopSender;

const EXAMPLES: &str = "\
Jobs are declared in the folder `jobs`, one file <name>.toml for each; changes are applied without a restart. Several schedulers
may run, on several machines that share the organisation database: each due time is run once, and if a scheduler dies, another
process resumes its runs within a minute.

Examples:
  plantlake schedule
  plantlake serve --with-jobs
      Does the same in the process of a server.
  plantlake jobs
      Lists the jobs, their schedules and their last runs.

Ctrl-C lets running jobs continue for `schedule.shutdown_timeout`, and then aborts them; a second Ctrl-C stops immediately.";

/// Run jobs when they are due
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ScheduleArgs {
    /// Print the scheduled jobs as JSON, and keep running
    #[arg(long)]
    json: bool,
}

impl RunCommand for ScheduleArgs {
    const HANDLES_INTERRUPT: bool = true;

    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let settings = &context.settings;
        let to_end = settings.schedule.shutdown_timeout.to_std()?;
        context.interrupt.exit_after(to_end, Exit::Success);
        let monitoring = Monitoring::open(settings).await.map_err(monitoring_error)?;
        let scheduling = ScheduleRunner::open(settings, false)
            .await
            .map_err(schedule_error)?;
        let names = scheduling.names();
        let terminal = &context.terminal;
        if self.json {
            let printed = json!({"jobs": names, "metrics": monitoring.url()});
            terminal.line(&printed.to_string())?;
        } else {
            for spec in scheduling.specs().iter() {
                if let Some(schedule) = &spec.schedule {
                    terminal.line(&format!("{}  {schedule}", spec.name))?;
                }
            }
            if names.is_empty() {
                let folder = settings.jobs.display();
                terminal.line(&format!(
                    "No job in {folder} has a schedule yet; the folder is watched for changes."
                ))?;
            }
            if let Some(url) = monitoring.url() {
                terminal.line(&format!("metrics  {url}"))?;
            }
        }
        let stopper = StopSender::default();
        let stop = stopper.subscribe();
        Monitoring::mark_started();
        let interrupt = async {
            context.interrupt.wait().await;
            Monitoring::mark_stopping();
            stopper.stop();
            std::future::pending().await
        };
        tokio::select! {
            () = scheduling.run(stop) => {}
            () = monitoring.run() => {}
            () = interrupt => {}
        }
        Ok(Exit::Success)
    }
}
