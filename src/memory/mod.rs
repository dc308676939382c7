//! The memory of the process: limits of queries, and when freed pages return to the system.
//!
//! The program's allocator is mimalloc with limits for queries (`main.rs`). In a program that uses the library with another
//! allocator, this module has no effect.

mod allocator;
mod pages;
mod pressure;
mod query_memory;
mod resident;
mod watchdog;

pub use allocator::Allocator;
pub use pages::{keep_freed_pages, reduce_footprint, release_freed_memory};
pub use query_memory::{
    Charged, QueryMemory, enforce_limits, is_exhausted, is_exhaustion_text, is_out_of_memory,
    is_stopped, on_alloc_error, set_query_limits,
};
pub use watchdog::{start_watchdog, watch};
