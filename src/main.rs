//! The binary. Sets the allocator and the rustls crypto provider, then calls the CLI's [`main`](plantlake::cli::main).

use plantlake::memory;

/// Record batches are many, large and short-lived. The system allocator would return the pages of each to the kernel, and
/// fault them in again for the next.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ! {
    // The dependencies enable two crypto providers, so rustls cannot choose a default by itself. The result is ignored: this
    // is the first call, so no other provider can be installed.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    unwind_when_out_of_memory();
    plantlake::cli::main()
}

/// Makes a failed allocation end the query that made it instead of the process.
#[cfg(has_alloc_error_hook)]
fn unwind_when_out_of_memory() {
    // `build.rs` compiles this crate.
    extern crate alloc_error_hook;
    alloc_error_hook::install(memory::on_alloc_error);
    memory::enforce_limits();
}

/// Does nothing: without the hook, a refused allocation would abort the process, so the limits are not enforced.
#[cfg(not(has_alloc_error_hook))]
fn unwind_when_out_of_memory() {}
