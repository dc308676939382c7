//! plantlake: a process historian on a lakehouse.
//!
//! Layers, lowest first; imports point down only, and siblings do not import each other
//! (`tests/layers.rs` checks it):
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`model`], [`clock`], [`config`] |
//! | 1 | [`catalog`], [`lake`] |
//! | 2 | [`resample`] |
//! | 3 | [`engine`] |
//! | 4 | [`jobs`], [`simulate`] |
//! | 6 | [`app`], [`cli`] |

pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod lake;
pub mod model;
pub mod simulate;
