//! `plantlake completions`: prints a completion script for a shell, generated from the definition of the command line.

use clap::Args;
use clap_complete::Shell;

use crate::cli::exit::Exit;
use crate::cli::output::{OutputError, Terminal};
use crate::cli::run_command::{Context, RunCommand};

const EXAMPLES: &str = "\
Examples:
  bash, in ~/.bashrc:
      source <(plantlake completions bash)
  zsh, in ~/.zshrc, after compinit:
      source <(plantlake completions zsh)
  fish:
      plantlake completions fish > ~/.config/fish/completions/plantlake.fish
  for all users of a machine:
      plantlake completions bash > /usr/share/bash-completion/completions/plantlake";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl RunCommand for CompletionsArgs {
    fn print_without_settings(
        &self,
        command_line: fn() -> clap::Command,
    ) -> Option<Result<(), OutputError>> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command_line(), "plantlake", &mut script);
        Some(Terminal::new(true).print(&String::from_utf8_lossy(&script)))
    }

    async fn run(self, _: Context) -> anyhow::Result<Exit> {
        // The script was printed without settings.
        Ok(Exit::Success)
    }
}
