//! How the process holds memory: what it keeps of pages that were freed, and when they go back to the system.
//!
//! The program's allocator is mimalloc, within limits for queries (`main.rs`). Where another program uses the library with
//! an allocator of its own, none of this has an effect.

mod allocator;
mod query_memory;
mod watchdog;

use std::cell::Cell;
use std::time::Duration;

pub use self::allocator::Allocator;
pub use self::query_memory::{
    Charged, QueryMemory, enforce_limits, is_exhausted, is_exhaustion_text, is_out_of_memory,
    is_stopped, on_alloc_error, set_query_limits,
};
pub use self::watchdog::{start_watchdog, watch};
use crate::clock::Stopwatch;

/// `mi_option_purge_delay` in `mi_option_t` of mimalloc 3; the crate does not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// For a job: keeps freed pages for a second, for the next batch, instead of giving them back after a moment: on a
/// virtual machine, a page that went back to the host is faulted in at a tenth of the speed of memory. Not for
/// ever: over many cells, pages that are too scattered to be used again would add up to a third of the memory.
pub fn keep_freed_pages() {
    set_purge_delay_ms(1_000);
}

/// For a server, which is there for long and is not alone: takes memory by small pages from now on, and gives them back
/// sooner. It holds many small things, each of which may hold on to a page of 2 MiB: with those it had a third more of the
/// machine's memory, and was no faster for it.
pub fn reduce_footprint() {
    set_purge_delay_ms(50);
    disable_huge_pages();
}

/// Keeps freed pages for so many milliseconds.
#[expect(unsafe_code, reason = "a C function that sets an integer")]
fn set_purge_delay_ms(milliseconds: std::ffi::c_long) {
    // SAFETY: any option may be set to any value, at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a C function that sets a flag")]
fn disable_huge_pages() {
    // SAFETY: it touches no memory. Where it fails, the process is larger, and right.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Elsewhere pages are as they are.
#[cfg(not(target_os = "linux"))]
fn disable_huge_pages() {}

/// Gives back what the calling thread was done with a while ago; at most once a second. For threads that have nothing
/// to do for now: what they freed last would stay theirs until they allocate again, which may be never.
pub fn release_freed_memory() {
    thread_local! {
        static LAST: Cell<Option<Stopwatch>> = const { Cell::new(None) };
    }
    let is_due = LAST
        .get()
        .is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
    if is_due {
        LAST.set(Some(Stopwatch::start()));
        collect();
    }
}

#[expect(unsafe_code, reason = "a C function of the allocator")]
fn collect() {
    // SAFETY: it may be called by any thread, at any time but within the allocator.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
