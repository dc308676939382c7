//! From the process's start to its exit code: the runtime, and one command on it.
//!
//! In the library, not in `main.rs`: what is asynchronous is compiled where it is waited for, and the binary would compile all
//! of it once more.

use std::process::ExitCode;

use super::{Exit, Parsed, parse, report, run};
use crate::descriptors;
use crate::engine::MOST_STACK;
use crate::memory;

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    memory::keep_freed_pages();
    descriptors::raise_limit();
    // The main thread's stack is of the size that the shell gives it.
    let started = std::thread::Builder::new()
        .stack_size(MOST_STACK)
        .spawn(on_a_large_stack);
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // A panic has been told.
        Ok(Err(_)) => Exit::Failure.into(),
        Err(error) => {
            report(&anyhow::Error::new(error).context("no thread can be started"));
            Exit::Failure.into()
        }
    }
}

fn on_a_large_stack() -> ExitCode {
    let invocation = match parse() {
        Parsed::Run(invocation) => invocation,
        Parsed::Done(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(MOST_STACK)
        .on_thread_park(memory::give_back_freed)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&anyhow::Error::new(error).context("the runtime cannot be started"));
            return Exit::Failure.into();
        }
    };
    let outcome = runtime.block_on(run(*invocation));
    // Work that an interruption left on other threads must not hold the process back.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| report(&error)).into()
}
