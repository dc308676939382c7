//! The program: starts the runtime, runs one command, and turns its outcome into an exit code.

use std::process::ExitCode;

use plantlake::cli::{self, Exit, Parsed};
use plantlake::engine::MOST_STACK;
use plantlake::memory;

/// Batches are many, large and short-lived: the system's allocator would give each back to the kernel, and
/// fault its pages in again for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::keep_freed_pages();
    // Of the two that libraries bring, so that none has to guess. It is the first: nothing else can have been installed.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The main thread's stack is of the size that the shell gives it.
    let started = std::thread::Builder::new()
        .stack_size(MOST_STACK)
        .spawn(run);
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // A panic has been told.
        Ok(Err(_)) => Exit::Failure.into(),
        Err(error) => {
            cli::report(&anyhow::Error::new(error).context("no thread can be started"));
            Exit::Failure.into()
        }
    }
}

fn run() -> ExitCode {
    let invocation = match cli::parse() {
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
            cli::report(&anyhow::Error::new(error).context("the runtime cannot be started"));
            return Exit::Failure.into();
        }
    };
    let outcome = runtime.block_on(cli::run(*invocation));
    // Work that an interruption left on other threads must not hold the process back.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| cli::report(&error)).into()
}
