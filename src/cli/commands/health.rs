//! `plantlake health`: checks whether the plantlake on this machine is ready, for container engines.

use clap::Args;
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::run_command::{Context, RunCommand};
use crate::metrics::health_check::check_health;

const EXAMPLES: &str = "\
Requests /readyz at the address of the metrics (the setting metrics.listen). Exit code 0 means that the process is ready; 1
means that it is starting or stopping, that its organisation database does not respond, or that no process is running.

Examples:
  plantlake health
  HEALTHCHECK CMD [\"plantlake\", \"health\"]        in a Dockerfile, or in compose.yaml as its healthcheck's test
  plantlake health --live
      Checks only that the process is alive.";

/// Check whether the plantlake on this machine is ready, for container engines
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HealthArgs {
    /// Only check that the process is alive
    #[arg(long)]
    live: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for HealthArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let Some(listen) = context.settings.metrics.listen else {
            let error = anyhow::anyhow!(
                "cannot check the health: `metrics.listen` is off; set it to an address, such as 127.0.0.1:9464"
            );
            return Err(Exit::Usage.wrap(error));
        };
        let path = if self.live { "/healthz" } else { "/readyz" };
        let answer = check_health(listen, path).await;
        if self.json {
            let said = answer
                .as_ref()
                .map_or_else(ToString::to_string, Clone::clone);
            let printed = json!({"healthy": answer.is_ok(), "said": said});
            context.terminal.line(&printed.to_string())?;
            return Ok(if answer.is_ok() {
                Exit::Success
            } else {
                Exit::Failure
            });
        }
        context.terminal.line(&answer?)?;
        Ok(Exit::Success)
    }
}
