//! The commands, one file each: a clap `Args` struct that implements [`RunCommand`], and whose documentation is the help
//! of the command. A new command takes two lines here: `mod`, and its entry in the list.

mod archive;
mod audit;
mod backup;
mod catalog;
mod completions;
mod config;
mod demo;
mod doctor;
mod health;
mod index;
mod jobs;
mod key;
mod maintain;
mod migrate;
mod mirror;
mod models;
mod org;
mod org_command;
mod org_grants;
mod org_limit;
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

use clap::Subcommand;

use super::dispatch::{GlobalFlags, dispatch};
use super::exit::Exit;
use super::output::OutputError;
use super::run_command::RunCommand;

/// Declares the commands: the enum that clap parses, and what is done with each.
macro_rules! commands {
    ($($command:ident($arguments:ty),)*) => {
        /// The commands, in the order of the help.
        #[derive(Debug, Subcommand)]
        pub(super) enum Command {
            $($command($arguments),)*
        }

        impl Command {
            /// Runs the command.
            pub async fn run(self, global: GlobalFlags) -> anyhow::Result<Exit> {
                match self {
                    $(Self::$command(arguments) => dispatch(arguments, global).await,)*
                }
            }

            /// Prints output that needs no settings, if it is requested.
            pub fn print_without_settings(
                &self,
                command_line: fn() -> clap::Command,
            ) -> Option<Result<(), OutputError>> {
                match self {
                    $(Self::$command(arguments) => arguments.print_without_settings(command_line),)*
                }
            }
        }
    };
}

commands! {
    Demo(demo::DemoArgs),
    Simulate(simulate::Args),
    Resample(resample::ResampleArgs),
    Maintain(maintain::MaintainArgs),
    Archive(archive::ArchiveArgs),
    Mirror(mirror::MirrorArgs),
    Status(status::StatusArgs),
    Query(query::QueryArgs),
    Search(search::SearchArgs),
    Index(index::IndexArgs),
    Serve(serve::ServeArgs),
    Run(run::RunArgs),
    Schedule(schedule::ScheduleArgs),
    Jobs(jobs::JobsArgs),
    Catalog(catalog::CatalogArgs),
    Org(org::OrgArgs),
    User(user::UserArgs),
    Key(key::KeyArgs),
    Token(token::TokenArgs),
    Session(session::SessionArgs),
    Usage(usage::UsageArgs),
    Audit(audit::AuditArgs),
    Models(models::ModelsArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Migrate(migrate::MigrateArgs),
    Doctor(doctor::DoctorArgs),
    Health(health::HealthArgs),
    Config(config::ConfigArgs),
    Completions(completions::CompletionsArgs),
}
