//! `plantlake schedule`: runs jobs when they are due.

use clap::Args;
use serde_json::json;

use super::serve::{wrong_address, wrong_spec};
use super::{Context, Exit, RunCommand};
use crate::app::{Monitoring, Scheduling};
use crate::schedule::Stopper;

const EXAMPLES: &str = "\
Jobs are declared in the folder `jobs`, a file <name>.toml each, which is followed while it changes. Several of these may
run, on several machines that share the organisation database: each due time is run for once, and what one that died had
begun is gone on with by another within a minute.

Examples:
  plantlake schedule
  plantlake serve --with-jobs
      The same in the process of a server.
  plantlake jobs
      What there is, when it runs, and how that went.

Ctrl-C lets jobs that run go on for the setting `schedule.shutdown_timeout`, and then ends them; once more ends at once.";

/// Arguments of `schedule`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ScheduleArgs {
    /// Print the scheduled jobs as JSON, and keep running
    #[arg(long)]
    json: bool,
}

impl RunCommand for ScheduleArgs {
    const ENDS_ITSELF_WHEN_INTERRUPTED: bool = true;

    fn json(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let settings = &context.settings;
        let to_end = settings.schedule.shutdown_timeout.to_std()?;
        context.interrupt.exit_after(to_end, Exit::Success);
        let monitoring = Monitoring::open(settings).await.map_err(wrong_address)?;
        let scheduling = Scheduling::open(settings, false)
            .await
            .map_err(wrong_spec)?;
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
                    "No job in {folder} has a schedule yet; the folder is followed."
                ))?;
            }
            if let Some(url) = monitoring.url() {
                terminal.line(&format!("metrics  {url}"))?;
            }
        }
        let stopper = Stopper::default();
        let stop = stopper.stop_of();
        Monitoring::started();
        let interrupt = async {
            context.interrupt.wait().await;
            Monitoring::stopping();
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
