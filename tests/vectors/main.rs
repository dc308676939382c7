//! Both indexes of vectors: one suite for the one in this process and the one in a Qdrant server, and what can go wrong
//! with each.
//!
//! The server is `fake`: it speaks Qdrant's protocol, and keeps its points in shards of Qdrant's own engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a child process tells its parent how far it is"
)]

mod conformance;
mod edge;
mod fake;
mod faults;
mod measure;
mod oracle;
mod place;
