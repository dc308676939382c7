//! Tests of the schedule over simulated days, with a fake clock, real databases, and daemons that are killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod behaviour;
mod clock;
mod plant;
mod ten_days;
mod webhook;
