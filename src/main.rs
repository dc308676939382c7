//! The program: its allocator, who does its cryptography, and the command line's [`main`](plantlake::cli::main).

use plantlake::memory;

/// Batches are many, large and short-lived: the system's allocator would give each back to the kernel, and
/// fault its pages in again for the next.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> std::process::ExitCode {
    // Of the two that libraries bring, so that none has to guess. It is the first: nothing else can have been installed.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    unwind_when_out_of_memory();
    plantlake::cli::main()
}

/// Has a failed allocation end the query that made it, and not the process.
#[cfg(has_alloc_error_hook)]
fn unwind_when_out_of_memory() {
    // `build.rs` compiles it.
    extern crate alloc_error_hook;
    alloc_error_hook::install(memory::on_alloc_error);
    memory::enforce_limits();
}

/// Where the hook could not be compiled, no allocation is refused: the process would be aborted.
#[cfg(not(has_alloc_error_hook))]
fn unwind_when_out_of_memory() {}
