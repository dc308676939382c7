//! The command line: flags, dispatch to one file per command, and the exit codes.
//!
//! A command is a file `src/cli/<command>.rs` with a clap `Args` struct that implements [`RunCommand`]. To add one
//! takes three lines here: `mod`, a variant of `Command` and an arm in `run`.

mod administration;
mod archive;
mod audit;
mod backup;
mod catalog;
mod chains;
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
mod limit;
mod logging;
mod maintain;
mod migrate;
mod mirror;
mod models;
mod office;
mod org;
mod org_grants;
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
mod usage_money;
mod usage_report;
mod user;

use std::future::Future;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{InForce, Inputs, Override, Settings, load};
pub use exit::{Exit, WithExit, report};
pub use interrupt::Interrupt;
use output::{OutputError, Terminal};
pub use program::main;

const ABOUT: &str = "A process historian on a lakehouse: raw sensor Parquet to Delta tables of minute, hour and day averages";

const EXAMPLES: &str = "\
Examples:
  plantlake demo
      From nothing to a server with a simulated plant, and a block to paste into Python.
  plantlake resample --lake s3://plant/lake
      Bring the three tables of a lake up to date with its raw files.
  plantlake query \"SELECT * FROM data_h ORDER BY timestamp DESC LIMIT 10\"
      Look at the latest hours.
";

/// What the command line says.
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
    /// Everything at once: a simulated plant, its tables, search, organisations, and a server to connect to
    Demo(demo::DemoArgs),
    /// Make a believable chemical plant: its catalog, and raw readings with known faults
    Simulate(simulate::Args),
    /// Bring the tables of averages up to date with the raw files
    Resample(resample::ResampleArgs),
    /// Keep the files of the tables in order: few large ones, and none that nobody needs
    Maintain(maintain::MaintainArgs),
    /// What expired and was archived, and bringing it back
    Archive(archive::ArchiveArgs),
    /// Make the mirror in Postgres equal to the tables, inside its windows
    Mirror(mirror::MirrorArgs),
    /// Show raw files, tables, last runs and the mirror
    Status(status::StatusArgs),
    /// Run read-only SQL on the tables
    Query(query::QueryArgs),
    /// Find equipment by describing it
    Search(search::SearchArgs),
    /// Bring the search index up to date with the catalog
    Index(index::IndexArgs),
    /// Serve the lake to Flight SQL clients, with authentication
    Serve(serve::ServeArgs),
    /// Run one job now, as it is declared, and write that down
    Run(run::RunArgs),
    /// Run jobs when they are due
    Schedule(schedule::ScheduleArgs),
    /// The jobs that are declared: when they run, and how that went
    Jobs(jobs::JobsArgs),
    /// The catalog of assets: check it, and see which one is in force
    Catalog(catalog::CatalogArgs),
    /// Organisations: make them, and grant them assets
    Org(org::OrgArgs),
    /// Users: make them, set passwords, take access away
    User(user::UserArgs),
    /// API keys: make and revoke them
    Key(key::KeyArgs),
    /// Access tokens, and the keys that they are signed with
    Token(token::TokenArgs),
    /// Who is signed in, and ending it
    Session(session::SessionArgs),
    /// What was used: reports, closed months and invoices
    Usage(usage::UsageArgs),
    /// Who changed what, and when
    Audit(audit::AuditArgs),
    /// The models of search: which are there, and getting them
    Models(models::ModelsArgs),
    /// Put into one file what cannot be computed again, or check such a file
    Backup(backup::BackupArgs),
    /// Put a backup back
    Restore(restore::RestoreArgs),
    /// Bring the organisation database's schema up to date
    Migrate(migrate::MigrateArgs),
    /// Look whether all is as plantlake needs it, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Ask the plantlake on this machine whether it is ready, for container engines
    Health(health::HealthArgs),
    /// Show the settings in force and where each came from
    Config(config::ConfigArgs),
    /// Print what makes a shell complete this program's commands
    Completions(completions::CompletionsArgs),
}

/// Runs what the command line asks for.
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

/// The flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalFlags {
    /// Root of the lake: a folder or a URL [default: lake]
    #[arg(long, global = true, value_name = "PATH_OR_URL")]
    lake: Option<String>,
    /// Folder of what belongs to this machine [default: <lake>/.state, or state for a remote lake]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<String>,
    /// Folder of the plant's catalog [default: catalog]
    #[arg(long, global = true, value_name = "DIR")]
    catalog: Option<String>,
    /// Settings file [default: plantlake.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged: a level, or a filter such as warn,plantlake::lake=debug [default: warn]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// No progress and no remarks; results and errors only
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

/// What a command does; implemented by its clap arguments.
pub trait RunCommand {
    /// Whether the command ends itself, in order, when [`Context::interrupt`] says so, and then returns
    /// [`Exit::Interrupted`]. Otherwise it is dropped where it waits.
    const ENDS_ITSELF_WHEN_INTERRUPTED: bool = false;

    /// Settings that the command's own flags give.
    fn overrides(&self) -> Vec<Override> {
        Vec::new()
    }

    /// Whether standard output is for a program to read: then there is no progress and no remark.
    fn json(&self) -> bool {
        false
    }

    /// Does it.
    fn run(self, context: Context) -> impl Future<Output = anyhow::Result<Exit>>;
}

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// Where each setting came from.
    pub in_force: Vec<InForce>,
    /// Standard output and standard error.
    pub terminal: Terminal,
    /// Whether the user or the system asked to stop.
    pub interrupt: Interrupt,
}

/// Loads the settings, starts logging and runs one command until it ends or is interrupted.
async fn dispatch<C: RunCommand>(command: C, global: GlobalFlags) -> anyhow::Result<Exit> {
    let overrides = global.overrides().chain(command.overrides()).collect();
    let loaded = load(&Inputs::of_process(global.config.clone(), overrides))?;
    let terminal = Terminal::new(global.quiet || command.json());
    logging::start(&loaded.settings.log, &terminal)?;
    let interrupt = Interrupt::listen()?;
    let context = Context {
        settings: loaded.settings,
        in_force: loaded.in_force,
        terminal: terminal.clone(),
        interrupt: interrupt.clone(),
    };
    let run = command.run(context);
    let outcome = if C::ENDS_ITSELF_WHEN_INTERRUPTED {
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

/// What came of reading the command line.
pub enum Parsed {
    /// A command is to be run.
    Run(Box<Invocation>),
    /// Help was printed, or what is wrong.
    Done(Exit),
}

/// Reads the command line of the process.
pub fn parse() -> Parsed {
    let parsed = clap_command()
        .try_get_matches()
        .and_then(|matches| Invocation::from_arg_matches(&matches));
    match parsed {
        Ok(invocation) => match invocation.print_about_itself() {
            Some(printed) => Parsed::Done(exit::code_of(printed)),
            None => Parsed::Run(Box::new(invocation)),
        },
        Err(error) => {
            // Nobody is left to be told that the help could not be written.
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
    help::flowing(command)
}

impl Invocation {
    /// Prints what needs no settings, if that is asked for: documentation is wanted most when they are wrong, and a shell
    /// completes in any folder.
    fn print_about_itself(&self) -> Option<Result<(), OutputError>> {
        match &self.command {
            Command::Config(args) if args.docs => Some(config::print_docs()),
            Command::Completions(args) => Some(args.print()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn clap_accepts_the_declaration() {
        clap_command().debug_assert();
    }

    #[test]
    fn every_global_flag_that_the_settings_name_exists() {
        let command = clap_command();
        for flag in SETTINGS.iter().filter_map(|about| about.flag) {
            // Flags of a single command name it after a space.
            if !flag.contains(' ') {
                let known = command
                    .get_arguments()
                    .any(|arg| arg.get_long() == flag.strip_prefix("--"));
                assert!(known, "{flag}");
            }
        }
    }
}
