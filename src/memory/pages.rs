//! When freed pages return to the system.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Stopwatch;

/// `mi_option_purge_delay` in `mi_option_t` of mimalloc 3; the crate does not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// For a job: keeps freed pages for a second, for the next batch. On a virtual machine, a page that was returned to the host
/// is faulted in at a tenth of the speed of memory. A second is a compromise: over many cells, pages that are too scattered
/// to be used again would add up to a third of the memory.
pub fn keep_freed_pages() {
    set_purge_delay_ms(1_000);
}

/// For a server: allocates small pages from now on, and returns them sooner. A server holds many small objects, each of which
/// may keep a page of 2 MiB: with huge pages it held a third more memory, and was not faster.
pub fn reduce_footprint() {
    set_purge_delay_ms(50);
    disable_huge_pages();
}

/// Sets the time in milliseconds for which freed pages are kept.
#[expect(unsafe_code, reason = "a C function that sets an integer")]
fn set_purge_delay_ms(milliseconds: std::ffi::c_long) {
    // SAFETY: any option may be set to any value, at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a C function that sets a flag")]
fn disable_huge_pages() {
    // SAFETY: it touches no memory. If it fails, the process is larger, but correct.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Other systems keep their page size.
#[cfg(not(target_os = "linux"))]
fn disable_huge_pages() {}

/// Returns the pages that the calling thread freed, at most once a second. For threads that become idle: the pages that they
/// freed last would otherwise stay theirs until they allocate again.
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

/// Returns all freed pages to the system, also those whose purge delay has not passed.
#[expect(unsafe_code, reason = "a C function of the allocator")]
pub(super) fn collect_now() {
    // SAFETY: as above.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
