//! plantlake: a process historian on a lakehouse.
//!
//! Layers, lowest first. Modules import only from lower layers and, except as noted, not from siblings
//! (`tests/it/layers.rs` checks this):
//!
//! | layer | modules |
//! |---|---|
//! | 0 | `clock`, `decoding`, `descriptors`, `model`, `rollup_schema` |
//! | 0 | `memory` and `metrics` (may use `clock`), `workers` (may use `memory`), `config` (may use `model`) |
//! | 1 | `backup`, `catalog`, `lake`, `store` |
//! | 2 | `resample`, `search` |
//! | 3 | `engine` |
//! | 4 | `jobs`, `schedule`, `simulate`, `mirror`, `auth`, `metering` |
//! | 5 | `flight` |
//! | 6 | the binary's `main`, above `cli`, above `app` |

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
pub mod jobs;
pub mod lake;
pub mod memory;
pub mod metering;
pub mod metrics;
pub mod mirror;
pub mod model;
pub mod rollup;
pub mod rollup_schema;
pub mod scheduler;
pub mod search;
pub mod server;
pub mod simulate;
pub mod store;
pub mod workers;
