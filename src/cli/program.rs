//! The process from its start to its exit code: the runtime, and one command on it.
//!
//! This is in the library and not in `main.rs`, because async code is compiled where it is awaited: the binary would
//! compile all of it a second time.

use std::process::ExitCode;

use super::exit::{Exit, report};
use super::invocation::{Parsed, parse};
use crate::descriptors;
use crate::engine::THREAD_STACK_BYTES;
use crate::memory;

/// Runs the command of the command line.
pub fn main() -> ExitCode {
    memory::keep_freed_pages();
    descriptors::raise_limit();
    // The shell determines the stack size of the main thread.
    let started = std::thread::Builder::new()
        .stack_size(THREAD_STACK_BYTES)
        .spawn(run_on_large_stack);
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic has been reported already.
        Ok(Err(_)) => Exit::Failure.into(),
        Err(error) => {
            report(&anyhow::Error::new(error).context("cannot start a thread"));
            Exit::Failure.into()
        }
    }
}

fn run_on_large_stack() -> ExitCode {
    let invocation = match parse() {
        Parsed::Run(invocation) => invocation,
        Parsed::Done(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .on_thread_park(memory::release_freed_memory)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&anyhow::Error::new(error).context("cannot start the async runtime"));
            return Exit::Failure.into();
        }
    };
    let outcome = runtime.block_on(invocation.run());
    // Work that an interruption left on other threads must not delay the exit.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| report(&error)).into()
}
