//! `plantlake completions`: prints a completion script for a shell, generated from the definition of the command line.

use clap::Args;
use clap_complete::Shell;

use super::output::{OutputError, Terminal};
use super::{Context, Exit, RunCommand};

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

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script for this command line.
    pub(super) fn print(&self, mut command_line: clap::Command) -> Result<(), OutputError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command_line, "plantlake", &mut script);
        Terminal::new(true).print(&String::from_utf8_lossy(&script))
    }
}

impl RunCommand for CompletionsArgs {
    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        self.print((context.command_line)())?;
        Ok(Exit::Success)
    }
}
