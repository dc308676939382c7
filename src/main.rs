//! The program: its allocator, and the command line's [`main`](plantlake::cli::main).

/// Batches are many, large and short-lived: the system's allocator would give each back to the kernel, and
/// fault its pages in again for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    plantlake::cli::main()
}
