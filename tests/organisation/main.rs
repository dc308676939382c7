//! The organisation database and who is let in: one suite, on SQLite and on a real Postgres.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod access;
mod caps;
mod chains;
mod conformance;
mod copies;
mod databases;
mod jobs;
mod same;
mod tokens;
mod usage;
