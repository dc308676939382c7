//! The schedule over simulated days: a clock that is moved by hand, real databases, and daemons that are killed.

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
