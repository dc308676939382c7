//! The process from its start to its exit code: the runtime, and one command on it.
//!
//! This is in the library and not in `main.rs`, because async code is compiled where it is awaited: the binary would
//! compile all of it a second time.

use std::io::Write as _;

use super::exit::{Exit, report};
use super::invocation::{Parsed, parse};
use crate::descriptors;
use crate::engine::THREAD_STACK_BYTES;
use crate::memory;

/// Runs the command of the command line, and ends the process with its exit code.
pub fn main() -> ! {
    end_process(run())
}

/// Ends the process without the clean-up of the C libraries (`atexit`, static destructors). Threads of abandoned work may
/// still run, and use what it would free: the process would end by SIGSEGV instead of its exit code. All that must outlive
/// the process has been written by then.
#[expect(unsafe_code, reason = "std has no exit without clean-up")]
fn end_process(exit: Exit) -> ! {
    // If the reader has gone, the text has no other place.
    let _ = std::io::stdout().flush();
    // SAFETY: it does not return, and runs no code of this process.
    unsafe { libc::_exit(exit as i32) }
}

fn run() -> Exit {
    memory::keep_freed_pages();
    descriptors::raise_limit();
    // The shell determines the stack size of the main thread.
    let started = std::thread::Builder::new()
        .stack_size(THREAD_STACK_BYTES)
        .spawn(run_on_large_stack);
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic has been reported already.
        Ok(Err(_)) => Exit::Failure,
        Err(error) => report(&anyhow::Error::new(error).context("cannot start a thread")),
    }
}

fn run_on_large_stack() -> Exit {
    let invocation = match parse() {
        Parsed::Run(invocation) => invocation,
        Parsed::Done(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .on_thread_park(memory::release_freed_memory)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(&anyhow::Error::new(error).context("cannot start the async runtime"));
        }
    };
    let outcome = runtime.block_on(invocation.run());
    // Work that an interruption left on other threads must not delay the exit.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| report(&error))
}
