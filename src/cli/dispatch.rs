//! Runs a parsed command: loads the settings, starts logging and handles interrupts.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::interrupt::Interrupt;
use super::logging;
use super::output::Terminal;
use super::run_command::{Context, RunCommand};
use crate::config::{Inputs, Override, load};

/// The flags that every command accepts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalFlags {
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
pub(super) async fn dispatch<C: RunCommand>(
    command: C,
    global: GlobalFlags,
) -> anyhow::Result<Exit> {
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
