//! `plantlake doctor`: checks the installation and suggests fixes.

use clap::Args;
use serde_json::json;

use crate::app::doctor::{Finding, Severity, examine};
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};

const EXAMPLES: &str = "\
Checks settings, folders and their permissions, the lake, the catalog, databases and their versions, the search index, models,
clocks, and free disk space, and changes nothing. It can run beside a server. Exit code 1 means that something will not work;
notes do not change the exit code.

Examples:
  plantlake doctor
  plantlake --config /etc/plantlake/plantlake.toml doctor
      Checks the service; run it as the user of the service, who may have fewer permissions than you.
  plantlake doctor --json | jq -r '.findings[] | select(.standing == \"wrong\") | .todo'";

/// Check the installation and suggest fixes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for DoctorArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let findings = examine(&context.settings, &context.effective_settings).await;
        let count = |standing| {
            let all = findings.iter();
            all.filter(|finding| finding.standing == standing).count()
        };
        let (wrong, notes) = (count(Severity::Wrong), count(Severity::Note));
        if self.json {
            let printed = json!({"findings": findings, "wrong": wrong, "notes": notes});
            context.terminal.line(&printed.to_string())?;
        } else {
            print(&context, &findings)?;
            let last = match (wrong, notes) {
                (0, 0) => "All checks passed.".to_owned(),
                (0, notes) => format!(
                    "All checks passed; {}.",
                    human::counted(notes as u64, "note")
                ),
                (wrong, notes) => {
                    format!("{wrong} failed, {}.", human::counted(notes as u64, "note"))
                }
            };
            context.terminal.line(&last)?;
        }
        Ok(match wrong {
            0 => Exit::Success,
            _ => Exit::Failure,
        })
    }
}

/// Prints the findings as a table, and below it the suggested fixes in full.
fn print(context: &Context, findings: &[Finding]) -> anyhow::Result<()> {
    let terminal = &context.terminal;
    let mut table = Table::new(["", "what", "found"]);
    for finding in findings {
        table.row([label(finding.standing), finding.what, &finding.found]);
    }
    terminal.table(&table)?;
    terminal.line("")?;
    for finding in findings.iter().filter(|finding| !finding.todo.is_empty()) {
        let Finding {
            what, found, todo, ..
        } = finding;
        terminal.line(&format!("{} {what}: {found}", label(finding.standing)))?;
        terminal.line(&format!("      → {todo}"))?;
    }
    Ok(())
}

const fn label(standing: Severity) -> &'static str {
    match standing {
        Severity::Right => "ok",
        Severity::Note => "note",
        Severity::Wrong => "WRONG",
    }
}
