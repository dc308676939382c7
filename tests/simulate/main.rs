//! Tests of the simulator through its public interface: its files, its refusals, and its ground truth.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod content;
mod ownership;
mod place;
