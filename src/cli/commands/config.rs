//! `plantlake config`: the settings in force and where each came from.

use clap::Args;
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output::{OutputError, Table, Terminal};
use crate::cli::run_command::{Context, RunCommand};
use crate::config;

/// Show the settings in force and where each came from
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the documentation of every setting as Markdown
    #[arg(long, conflicts_with = "json")]
    docs: bool,
}

impl RunCommand for ConfigArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    fn print_without_settings(&self, _: fn() -> clap::Command) -> Option<Result<(), OutputError>> {
        self.docs
            .then(|| Terminal::new(true).print(&config::markdown()))
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        if self.json {
            let settings: Vec<_> = context
                .effective_settings
                .iter()
                .map(|shown| {
                    json!({
                        "setting": shown.key,
                        "value": shown.value,
                        "source": shown.origin.to_string(),
                        "secret": shown.secret,
                    })
                })
                .collect();
            context
                .terminal
                .line(&serde_json::to_string_pretty(&settings)?)?;
        } else {
            let mut table = Table::new(["setting", "value", "source"]);
            for shown in &context.effective_settings {
                table.row([
                    shown.key.clone(),
                    shown.value.clone(),
                    shown.origin.to_string(),
                ]);
            }
            context.terminal.table(&table)?;
        }
        Ok(Exit::Success)
    }
}
