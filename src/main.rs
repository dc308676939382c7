//! The program: starts the runtime, runs one command, and turns its outcome into an exit code.

use std::process::ExitCode;

use plantlake::cli::{self, Exit, Parsed};
use plantlake::engine::MOST_STACK;

/// Batches are many, large and short-lived: the system's allocator would give each back to the kernel, and
/// fault its pages in again for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps freed pages for a second, for the next batch, instead of giving them back after a moment: on a
/// virtual machine, a page that went back to the host is faulted in at a tenth of the speed of memory. Not for
/// ever: over many cells, pages that are too scattered to be used again would add up to a third of the memory.
#[expect(unsafe_code, reason = "a C function that sets an integer")]
fn keep_freed_pages() {
    // SAFETY: any option may be set to any value, at any time.
    unsafe { libmimalloc_sys::mi_option_set(MI_OPTION_PURGE_DELAY, 1_000) }
}

/// `mi_option_purge_delay` in `mi_option_t` of mimalloc 3; the crate does not name it.
const MI_OPTION_PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    keep_freed_pages();
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
