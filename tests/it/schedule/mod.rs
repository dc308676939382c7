//! Tests of the schedule over simulated days, with a fake clock, real databases, and daemons that are killed.

mod behaviour;
mod clock;
mod plant;
mod ten_days;
mod webhook;
