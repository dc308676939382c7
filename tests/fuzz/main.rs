//! Fuzzes the server with random SQL, mutated statements and messages, and raw bytes. The server must not panic, hang, crash
//! or leak data between organisations (`oracle`).
//!
//! | file | contents |
//! |---|---|
//! | `input` | an input, as a line of JSON |
//! | `sql`, `words` | generation of SQL |
//! | `messages` | generation of valid messages |
//! | `mutate` | mutation of valid statements and messages |
//! | `files`, `thrift` | generation and mutation of Parquet files |
//! | `seeds` | the initial corpus |
//! | `invent` | choice of the next input |
//! | `send`, `wire` | the client |
//! | `server` | the server, in this process |
//! | `oracle` | checks of the replies |
//! | `coverage` | the edges that the server reached |
//! | `run` | one run and its report |
//!
//! | variable | meaning |
//! |---|---|
//! | `FUZZ_SECONDS` | the duration of the run in seconds, 60 by default |
//! | `FUZZ_SEED` | the seed of the random generator, random by default; each run prints it |
//! | `FUZZ_GOES_ON` | if set, findings are logged and the run continues, except after a hang |
//! | `FUZZ_DECODING` | if set, only Arrow data, parameters and files are generated |
//!
//! An input with a finding is printed as a line of JSON. Every run first replays the inputs in `found/<name>.jsonl`.
//! `tests/fuzz/run` fuzzes for longer and measures the server's coverage.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a long one tells how it goes"
)]

mod coverage;
mod files;
mod input;
mod invent;
mod messages;
mod mutate;
mod oracle;
#[path = "../it/sql/place.rs"]
mod place;
mod run;
mod seeds;
mod send;
mod server;
mod sql;
mod thrift;
mod wire;
mod words;

/// The allocator of the program: a query that exceeds its memory limit ends, and the process continues.
#[global_allocator]
static ALLOCATOR: plantlake::memory::Allocator = plantlake::memory::Allocator;

#[test]
fn server_with_fuzzed_inputs_never_panics_hangs_or_leaks() {
    #[cfg(has_alloc_error_hook)]
    {
        extern crate alloc_error_hook;
        alloc_error_hook::install(plantlake::memory::on_alloc_error);
        plantlake::memory::enforce_limits();
    }
    run::run();
}
