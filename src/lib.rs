//! plantlake: a process historian on a lakehouse.
//!
//! Layers, lowest first; imports point down only, and siblings do not import each other
//! (`tests/layers.rs` checks it):
//!
//! | layer | modules |
//! |---|---|
//! | 0 | `model`, `clock`, `decoding`, `memory` and `metrics` (which may use `clock`), `workers` (which may use `memory`), `config` (which may use `model`), `descriptors` |
//! | 1 | `backup`, `catalog`, `lake`, `store` |
//! | 2 | `resample`, `search` |
//! | 3 | `engine` |
//! | 4 | `jobs`, `schedule`, `simulate`, `mirror`, `auth`, `metering` |
//! | 5 | `flight` |
//! | 6 | the program's `main` over `cli` over `app` |

pub mod app;
pub mod auth;
pub mod backup;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decoding;
pub mod descriptors;
pub mod engine;
pub mod flight;
pub mod jobs;
pub mod lake;
pub mod memory;
pub mod metering;
pub mod metrics;
pub mod mirror;
pub mod model;
pub mod resample;
pub mod schedule;
pub mod search;
pub mod simulate;
pub mod store;
pub mod workers;
