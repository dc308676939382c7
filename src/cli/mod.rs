//! The command line: flags, dispatch to one file per command, and the exit codes.
//!
//! A command is a file `src/cli/<command>.rs` with a clap `Args` struct that implements [`RunCommand`]. A new command
//! takes three lines here: `mod`, a variant of `Command` and an arm in `run`.

mod admin_target;
mod administration;
mod archive;
mod audit;
mod backup;
mod catalog;
mod chains;
mod command;
mod completions;
mod config;
mod demo;
mod doctor;
mod exit;
mod health;
mod help;
mod index;
mod interrupt;
mod jobs;
mod key;
mod logging;
mod maintain;
mod migrate;
mod mirror;
mod models;
mod org;
mod org_command;
mod org_grants;
mod org_limit;
pub mod output;
mod program;
mod query;
mod resample;
mod restore;
mod run;
mod schedule;
mod search;
mod serve;
mod session;
mod simulate;
mod status;
mod token;
mod usage;
mod usage_command;
mod usage_invoice;
mod usage_months;
mod usage_report;
mod user;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Inputs, Override, load};
pub use command::{Context, RunCommand};
pub use exit::{Exit, WithExit, report};
pub use interrupt::Interrupt;
use output::{OutputError, Terminal};
pub use program::main;

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

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a simulated plant with its tables, search and organisations, and start a server to connect to
    Demo(demo::DemoArgs),
    /// Simulate a chemical plant: its catalog, and raw readings with known faults
    Simulate(simulate::Args),
    /// Update the tables of averages from the raw files
    Resample(resample::ResampleArgs),
    /// Compact the files of the tables, expire old data, and delete unused files
    Maintain(maintain::MaintainArgs),
    /// List archived data, and restore it
    Archive(archive::ArchiveArgs),
    /// Update the mirror in Postgres from the tables, inside its windows
    Mirror(mirror::MirrorArgs),
    /// Show raw files, tables, last runs and the mirror
    Status(status::StatusArgs),
    /// Run read-only SQL on the tables
    Query(query::QueryArgs),
    /// Find equipment by describing it
    Search(search::SearchArgs),
    /// Update the search index from the catalog
    Index(index::IndexArgs),
    /// Serve the lake to Flight SQL clients, with authentication
    Serve(serve::ServeArgs),
    /// Run one declared job now, and record the run
    Run(run::RunArgs),
    /// Run jobs when they are due
    Schedule(schedule::ScheduleArgs),
    /// List the declared jobs, their schedules and their runs
    Jobs(jobs::JobsArgs),
    /// Check the catalog of assets, or follow its changes
    Catalog(catalog::CatalogArgs),
    /// Manage organisations, their limits and their grants of assets
    Org(org::OrgArgs),
    /// Manage users, their passwords and their access
    User(user::UserArgs),
    /// Create, list and revoke API keys
    Key(key::KeyArgs),
    /// Manage access tokens and the keys that they are signed with
    Token(token::TokenArgs),
    /// List and revoke sessions
    Session(session::SessionArgs),
    /// Report usage, close months and compute invoices
    Usage(usage::UsageArgs),
    /// Show who changed what and when, and verify that the records are intact
    Audit(audit::AuditArgs),
    /// List and fetch the models of search
    Models(models::ModelsArgs),
    /// Back up the data that cannot be recomputed to one file, or check such a file
    Backup(backup::BackupArgs),
    /// Restore a backup
    Restore(restore::RestoreArgs),
    /// Migrate the organisation database to the current schema
    Migrate(migrate::MigrateArgs),
    /// Check the installation and suggest fixes
    Doctor(doctor::DoctorArgs),
    /// Check whether the plantlake on this machine is ready, for container engines
    Health(health::HealthArgs),
    /// Show the settings in force and where each came from
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the parsed command.
async fn run(invocation: Invocation) -> anyhow::Result<Exit> {
    let global = invocation.global;
    match invocation.command {
        Command::Demo(args) => dispatch(args, global).await,
        Command::Simulate(args) => dispatch(args, global).await,
        Command::Resample(args) => dispatch(args, global).await,
        Command::Maintain(args) => dispatch(args, global).await,
        Command::Archive(args) => dispatch(args, global).await,
        Command::Mirror(args) => dispatch(args, global).await,
        Command::Status(args) => dispatch(args, global).await,
        Command::Query(args) => dispatch(args, global).await,
        Command::Search(args) => dispatch(args, global).await,
        Command::Index(args) => dispatch(args, global).await,
        Command::Serve(args) => dispatch(args, global).await,
        Command::Run(args) => dispatch(args, global).await,
        Command::Schedule(args) => dispatch(args, global).await,
        Command::Jobs(args) => dispatch(args, global).await,
        Command::Catalog(args) => dispatch(args, global).await,
        Command::Org(args) => dispatch(args, global).await,
        Command::User(args) => dispatch(args, global).await,
        Command::Key(args) => dispatch(args, global).await,
        Command::Token(args) => dispatch(args, global).await,
        Command::Session(args) => dispatch(args, global).await,
        Command::Usage(args) => dispatch(args, global).await,
        Command::Audit(args) => dispatch(args, global).await,
        Command::Models(args) => dispatch(args, global).await,
        Command::Backup(args) => dispatch(args, global).await,
        Command::Restore(args) => dispatch(args, global).await,
        Command::Migrate(args) => dispatch(args, global).await,
        Command::Doctor(args) => dispatch(args, global).await,
        Command::Health(args) => dispatch(args, global).await,
        Command::Config(args) => dispatch(args, global).await,
        Command::Completions(args) => dispatch(args, global).await,
    }
}

/// The flags that every command accepts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalFlags {
    /// Root of the lake: a folder or a URL [default: lake]
    #[arg(long, global = true, value_name = "PATH_OR_URL")]
    lake: Option<String>,
    /// Folder of this machine's state [default: <lake>/.state, or state for a remote lake]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<String>,
    /// Folder of the plant's catalog [default: catalog]
    #[arg(long, global = true, value_name = "DIR")]
    catalog: Option<String>,
    /// Settings file [default: plantlake.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The log level, or a filter such as warn,plantlake::lake=debug [default: warn]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Print only results and errors, without progress and notes
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl GlobalFlags {
    fn overrides(&self) -> impl Iterator<Item = Override> {
        [
            Override::from_flag("lake", "--lake", self.lake.clone()),
            Override::from_flag("state", "--state", self.state.clone()),
            Override::from_flag("catalog", "--catalog", self.catalog.clone()),
            Override::from_flag("log", "--log", self.log.clone()),
        ]
        .into_iter()
        .flatten()
    }
}

/// Loads the settings, starts logging and runs one command until it ends or is interrupted.
async fn dispatch<C: RunCommand>(command: C, global: GlobalFlags) -> anyhow::Result<Exit> {
    let overrides = global.overrides().chain(command.overrides()).collect();
    let loaded = load(&Inputs::from_process(global.config.clone(), overrides))?;
    let terminal = Terminal::new(global.quiet || command.is_machine_output());
    logging::start(&loaded.settings.log, &terminal)?;
    let interrupt = Interrupt::listen()?;
    let context = Context {
        settings: loaded.settings,
        effective_settings: loaded.effective,
        terminal: terminal.clone(),
        interrupt: interrupt.clone(),
        command_line: clap_command,
    };
    let run = command.run(context);
    let outcome = if C::HANDLES_INTERRUPT {
        run.await
    } else {
        tokio::select! {
            outcome = run => outcome,
            () = interrupt.wait() => Ok(Exit::Interrupted),
        }
    };
    terminal.end_progress();
    outcome
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
        Ok(invocation) => match invocation.print_without_settings() {
            Some(printed) => Parsed::Done(exit::exit_of_output(printed)),
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

impl Invocation {
    /// Prints output that needs no settings, if it is requested: the documentation is needed most when the settings are
    /// wrong, and shells complete commands in any folder.
    fn print_without_settings(&self) -> Option<Result<(), OutputError>> {
        match &self.command {
            Command::Config(args) if args.docs => Some(config::print_docs()),
            Command::Completions(args) => Some(args.print(clap_command())),
            _ => None,
        }
    }
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
