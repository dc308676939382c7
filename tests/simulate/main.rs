//! The simulator, seen from outside: what it writes, what it refuses, and whether its ground truth is true.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod content;
mod ownership;
mod place;
