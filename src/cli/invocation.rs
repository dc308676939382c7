//! The command line of the process: its definition, and its parsing.

use clap::{CommandFactory, FromArgMatches, Parser};

use super::commands::Command;
use super::dispatch::GlobalFlags;
use super::exit::{Exit, exit_of_output};
use super::help;

const ABOUT: &str = "A process historian on a lakehouse: raw sensor Parquet to Delta tables of minute, hour and day averages";

const EXAMPLES: &str = "\
Examples:
  plantlake demo
      Set up a simulated plant, start a server, and print Python code that queries it.
  plantlake resample --lake s3://plant/lake
      Bring the three tables of a lake up to date with its raw files.
  plantlake query \"SELECT * FROM data_h ORDER BY timestamp DESC LIMIT 10\"
      Show the latest hourly averages.
";

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(name = "plantlake", version, about = ABOUT, propagate_version = true)]
pub struct Invocation {
    #[command(flatten)]
    global: GlobalFlags,
    #[command(subcommand)]
    command: Command,
}

impl Invocation {
    /// Runs the command.
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        self.command.run(self.global).await
    }
}

/// The result of parsing the command line.
pub enum Parsed {
    /// A command to be run.
    Run(Box<Invocation>),
    /// Help or a usage error was printed.
    Done(Exit),
}

/// Parses the command line of the process.
pub fn parse() -> Parsed {
    let parsed = clap_command()
        .try_get_matches()
        .and_then(|matches| Invocation::from_arg_matches(&matches));
    match parsed {
        Ok(invocation) => match invocation.command.print_without_settings(clap_command) {
            Some(printed) => Parsed::Done(exit_of_output(printed)),
            None => Parsed::Run(Box::new(invocation)),
        },
        Err(error) => {
            // If the help cannot be written, there is no place to report it.
            let _ = error.print();
            Parsed::Done(if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            })
        }
    }
}

fn clap_command() -> clap::Command {
    let command = Invocation::command().after_help(format!("{EXAMPLES}\n{}", Exit::table()));
    help::reflow_help(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn clap_command_passes_its_assertions() {
        clap_command().debug_assert();
    }

    #[test]
    fn global_flags_named_by_settings_exist() {
        let command = clap_command();
        for flag in SETTINGS.iter().filter_map(|about| about.flag) {
            // The settings name a flag of a single command with that command, after a space.
            if !flag.contains(' ') {
                let known = command
                    .get_arguments()
                    .any(|arg| arg.get_long() == flag.strip_prefix("--"));
                assert!(known, "{flag}");
            }
        }
    }
}
