//! The interface of a command, and the context in which it runs.

use std::future::Future;

use super::exit::Exit;
use super::interrupt::Interrupt;
use super::output::{OutputError, Terminal};
use crate::config::{EffectiveSetting, Override, Settings};

/// A command, implemented by its clap arguments.
pub trait RunCommand {
    /// Whether the command stops in order by itself when [`Context::interrupt`] asks it to, and then returns
    /// [`Exit::Interrupted`]. Otherwise its future is dropped.
    const HANDLES_INTERRUPT: bool = false;

    /// Returns the settings that the command's own flags set.
    fn overrides(&self) -> Vec<Override> {
        Vec::new()
    }

    /// Whether standard output is for a program, so that progress and notes are suppressed.
    fn is_machine_output(&self) -> bool {
        false
    }

    /// Prints output that needs no settings, if the arguments request it: the documentation is needed most when the
    /// settings are wrong, and shells complete commands in any folder. `command_line` returns the definition of the
    /// command line.
    fn print_without_settings(
        &self,
        _command_line: fn() -> clap::Command,
    ) -> Option<Result<(), OutputError>> {
        None
    }

    /// Runs the command.
    fn run(self, context: Context) -> impl Future<Output = anyhow::Result<Exit>>;
}

/// The context that every command receives.
#[derive(Debug, Clone)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// The settings in force, each with its origin.
    pub effective_settings: Vec<EffectiveSetting>,
    /// Standard output and standard error.
    pub terminal: Terminal,
    /// Reports whether the user or the system asked to stop.
    pub interrupt: Interrupt,
}
