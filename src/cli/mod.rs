//! The command line: flags, dispatch to one file per command, and the exit codes.

mod admin_target;
mod administration;
mod chains;
mod commands;
mod dispatch;
mod exit;
mod help;
mod interrupt;
mod invocation;
mod logging;
pub mod output;
mod program;
mod run_command;

pub use exit::{Exit, WithExit, report};
pub use interrupt::Interrupt;
pub use invocation::{Invocation, Parsed, parse};
pub use program::main;
pub use run_command::{Context, RunCommand};
