//! Sends the server what nobody means to send: SQL that is written by chance, statements and messages that were damaged,
//! bytes. It must not panic, hang, fall over, or show anyone what is not theirs (`oracle`).
//!
//! | file | what it knows |
//! |---|---|
//! | `input` | what is sent, as a line of JSON |
//! | `sql`, `words` | how SQL is written |
//! | `messages` | messages that are right |
//! | `mutate` | how what is right is damaged |
//! | `files`, `thrift` | Parquet files, and how they are damaged |
//! | `seeds` | what there is to begin with |
//! | `invent` | the next input |
//! | `send`, `wire` | how it gets to the server |
//! | `server` | the server, in this process |
//! | `oracle` | what must not happen |
//! | `coverage` | what the server went through |
//! | `run` | one run, and its report |
//!
//! | variable | meaning |
//! |---|---|
//! | `FUZZ_SECONDS` | how long, 60 if it is not set |
//! | `FUZZ_SEED` | what chance begins with; each run prints its own |
//! | `FUZZ_GOES_ON` | what is found is written down, and the run goes on |
//! | `FUZZ_DECODING` | only messages of data, parameters and files |
//!
//! An input that found something is a line of JSON; in a file `found/<name>.jsonl`, it is sent first by every run from then
//! on. `tests/fuzz/run` fuzzes for long, and with the server's coverage.

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
#[path = "../sql/place.rs"]
mod place;
mod run;
mod seeds;
mod send;
mod server;
mod sql;
mod thrift;
mod wire;
mod words;

/// As in the program: a query that asks for too much memory ends, and not the process.
#[global_allocator]
static ALLOCATOR: plantlake::memory::Allocator = plantlake::memory::Allocator;

#[test]
fn nothing_that_is_sent_harms_the_server() {
    #[cfg(has_alloc_error_hook)]
    {
        extern crate alloc_error_hook;
        alloc_error_hook::install(plantlake::memory::on_alloc_error);
        plantlake::memory::enforce_limits();
    }
    run::run();
}
