//! The integration tests, in one binary, so that the library is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a child process reports its progress to its parent"
)]

mod config;
mod layers;
mod models;
mod organisation;
mod resample_in_memory;
mod schedule;
mod simulate;
mod sql;
mod vectors;
