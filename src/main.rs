//! The program: its allocator, who does its cryptography, and the command line's [`main`](plantlake::cli::main).

/// Batches are many, large and short-lived: the system's allocator would give each back to the kernel, and
/// fault its pages in again for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Of the two that libraries bring, so that none has to guess. It is the first: nothing else can have been installed.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    plantlake::cli::main()
}
