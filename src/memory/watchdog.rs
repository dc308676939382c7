//! Ends the query that holds most when the process holds too much memory, whatever it consists of.
//!
//! The allocator counts only large allocations exactly. Many small ones, and freed pages that the allocator has not returned
//! yet, are seen here, in the resident memory of the process.

#[cfg(target_os = "linux")]
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use super::query_memory::{
    QueryMemory, other_bytes, queries_bytes, set_under_pressure, total_limit,
};
use crate::clock::Stopwatch;

/// The interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// The interval between two checks while the process is near its limit. Two cores fill about 10 MB in that time.
const NEAR_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// The time that a stopped query has to free its memory before another one is stopped, unless the process grows on.
const GRACE: Duration = Duration::from_secs(1);
/// The minimum number of bytes of a query that is stopped.
const MIN_HELD_BYTES: usize = 32 << 20;

/// The minimum number of bytes by which the process may exceed the limit. The slack is an eighth of the limit, at least this,
/// and at most three sixteenths of the limit: batches between operators are some megabytes, however small the limit is.
const MIN_SLACK_BYTES: usize = 24 << 20;

/// The number of bytes that queries allocate between two samples of the resident memory.
const SAMPLE_BYTES: usize = 32 << 20;

/// The bytes that queries allocated since the last sample.
static ALLOCATED_SINCE_SAMPLE: AtomicUsize = AtomicUsize::new(0);
/// The bytes that the process held before its first query.
static IDLE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// The queries whose memory is watched.
static WATCHED: Mutex<Vec<Weak<QueryMemory>>> = Mutex::new(Vec::new());

/// Adds a query to the watched ones.
pub fn watch(query: &Arc<QueryMemory>) {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|query| query.strong_count() > 0);
    watched.push(Arc::downgrade(query));
}

/// Starts the watchdog, unless it runs already. Does nothing if the system does not report the memory of the process.
///
/// # Errors
/// The thread cannot be started.
pub fn start_watchdog() -> std::io::Result<()> {
    static STARTED: Once = Once::new();
    let mut outcome = Ok(());
    STARTED.call_once(|| {
        if resident_bytes().is_some() {
            let thread = std::thread::Builder::new().name("memory".to_owned());
            outcome = thread.spawn(run_watchdog).map(drop);
        }
    });
    outcome
}

fn run_watchdog() {
    let (mut has_begun, mut is_near) = (false, false);
    let mut last_stop: Option<(Stopwatch, usize)> = None;
    loop {
        std::thread::sleep(if is_near {
            NEAR_CHECK_INTERVAL
        } else {
            CHECK_INTERVAL
        });
        // It was readable at the start: at a failure, such as at the limit of open files, the next check tries again.
        let Some(mut held) = held_bytes() else {
            continue;
        };
        // Only before the first query: later, an idle process may still hold what a query left behind.
        has_begun |= has_watched_queries();
        if !has_begun {
            IDLE_BYTES.store(held.saturating_sub(queries_bytes()), Ordering::Relaxed);
            continue;
        }
        let (idle, limit) = (IDLE_BYTES.load(Ordering::Relaxed), total_limit());
        is_near = held.saturating_sub(idle) > limit / 8 * 7;
        if is_near {
            // Pages that were freed less than the purge delay ago count as resident, too.
            super::collect_now();
            held = held_bytes().unwrap_or(held);
        }
        update_pressure(held);
        let has_grace = last_stop.as_ref().is_some_and(|(since, level)| {
            since.elapsed() < GRACE && held < level.saturating_add(limit / 64)
        });
        if is_above(held, idle, limit, 4) && !has_grace && stop_largest_query() {
            last_stop = Some((Stopwatch::start(), held));
        }
    }
}

/// Updates whether memory is refused, after every [`SAMPLE_BYTES`] that queries allocate: on a busy machine the watchdog's own
/// thread may run too late. Allocates nothing, because the allocator calls it.
pub(super) fn sample_after(bytes: usize) {
    if ALLOCATED_SINCE_SAMPLE.fetch_add(bytes, Ordering::Relaxed) < SAMPLE_BYTES {
        return;
    }
    ALLOCATED_SINCE_SAMPLE.store(0, Ordering::Relaxed);
    if total_limit() < usize::MAX
        && let Some(held) = held_bytes()
    {
        update_pressure(held);
    }
}

/// Updates whether memory is refused, for a process that holds `held` bytes.
fn update_pressure(held: usize) {
    let idle = IDLE_BYTES.load(Ordering::Relaxed);
    set_under_pressure(is_above(held, idle, total_limit(), 3));
}

/// The resident memory of the process in bytes, without mapped files and without large allocations outside queries.
fn held_bytes() -> Option<usize> {
    Some(resident_bytes()?.saturating_sub(other_bytes()))
}

/// Whether the process, which holds `held` bytes and held `idle` before its first query, is above `quarters` of the way from
/// the limit to the level at which a query is stopped.
fn is_above(held: usize, idle: usize, limit: usize, quarters: usize) -> bool {
    let slack = (limit / 8).max(MIN_SLACK_BYTES.min(limit / 16 * 3));
    // If the idle process is small compared with the limit, it counts: with the program's own pages, which are not counted here,
    // the total then stays below five fourths of the limit.
    let is_small = idle <= limit / 6;
    held.saturating_sub(idle) > limit.saturating_add(slack / 4 * quarters)
        || is_small && held > limit.saturating_add(limit / 32 * quarters)
}

fn has_watched_queries() -> bool {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    !watched.is_empty()
}

/// Stops the query that holds most. Returns whether there was one.
fn stop_largest_query() -> bool {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let queries = watched.iter().filter_map(Weak::upgrade);
    let running: Vec<_> = queries.filter(|query| !query.is_stopped()).collect();
    drop(watched);
    // Small allocations are an upper bound; they decide only if no query holds much in large ones.
    let largest = largest_query(&running, QueryMemory::held_bytes)
        .or_else(|| largest_query(&running, QueryMemory::small_bytes));
    let Some((held, query)) = largest else {
        return false;
    };
    tracing::warn!(
        held,
        "process memory exceeds serve.total_memory: stopped the query that holds most"
    );
    query.stop();
    true
}

/// Returns the query that holds most by `bytes`, unless that is too little to matter.
fn largest_query(
    queries: &[Arc<QueryMemory>],
    bytes: fn(&QueryMemory) -> usize,
) -> Option<(usize, &Arc<QueryMemory>)> {
    let held = queries.iter().map(|query| (bytes(query), query));
    held.filter(|(held, _)| *held >= MIN_HELD_BYTES.max(total_limit() / 16))
        .max_by_key(|(held, _)| *held)
}

/// The resident memory of the process in bytes, without mapped files.
#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<usize> {
    // Into a buffer on the stack: the allocator calls this, too.
    let mut text = [0; 128];
    let read = std::fs::File::open("/proc/self/statm")
        .ok()?
        .read(&mut text)
        .ok()?;
    let pages = std::str::from_utf8(text.get(..read)?).ok()?;
    let mut pages = pages.split(' ').skip(1).map(str::parse::<usize>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared).saturating_mul(page_bytes()))
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a C function that returns a number")]
fn page_bytes() -> usize {
    // SAFETY: it touches no memory.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// On other systems only large allocations are counted.
#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_idle_process_is_not_charged_to_queries() {
        let idle = 40 << 20;
        for (limit, slack) in [
            (64 << 20, 12 << 20),
            (128 << 20, 24 << 20),
            (1 << 30, 128 << 20),
        ] {
            // It counts only if it is small compared with the limit.
            let level = limit + slack + if idle <= limit / 6 { 0 } else { idle };
            assert!(!is_above(level, idle, limit, 4));
            assert!(is_above(level + 1, idle, limit, 4));
            assert!(!is_above(idle + limit, idle, limit, 3));
            assert!(is_above(level, idle, limit, 3));
        }
    }

    #[test]
    fn watchdog_over_the_limit_stops_the_largest_query_only() {
        let (modest, greedy) = (QueryMemory::start(), QueryMemory::start());
        modest.set_reserved(MIN_HELD_BYTES);
        // No test beside this one holds as much.
        greedy.set_reserved(usize::MAX);
        watch(&modest);
        watch(&greedy);
        assert!(stop_largest_query());
        assert!(greedy.is_stopped() && !modest.is_stopped());
        let stopped = std::panic::catch_unwind(|| greedy.enter(|| ()));
        assert!(stopped.is_err() && greedy.is_exhausted());
    }
}
