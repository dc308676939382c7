//! Ends the query that holds most when the process holds too much, whatever that is made of.
//!
//! The allocator counts large allocations only. What is made of many small ones is seen here, in the memory that the system
//! says the process has.

use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use super::query_memory::{QueryMemory, other_bytes, queries_bytes, total_limit};

/// The interval between two looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// A query that was stopped has so many looks for giving back what it holds before another one is stopped.
const GRACE_CHECKS: u32 = 20;
/// Queries that hold less than this, in bytes, are not what the process holds too much for.
const MIN_HELD_BYTES: usize = 32 << 20;

/// The process may hold an eighth more than the limit, and so many bytes in any case, but no more than three sixteenths: what
/// is on its way through a query's plan, and reserved by nobody, is some megabytes however small the limit is.
const MIN_SLACK_BYTES: usize = 24 << 20;

/// Queries that may hold much.
static WATCHED: Mutex<Vec<Weak<QueryMemory>>> = Mutex::new(Vec::new());

/// Has the watchdog look at a query, too.
pub fn watch(query: &Arc<QueryMemory>) {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|query| query.strong_count() > 0);
    watched.push(Arc::downgrade(query));
}

/// Starts the watchdog, if it has not been started. Does nothing where the system does not say what the process holds.
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
    let (mut grace, mut idle, mut has_begun) = (0_u32, 0, false);
    loop {
        std::thread::sleep(CHECK_INTERVAL);
        grace = grace.saturating_sub(1);
        let Some(held) = resident_bytes() else {
            return;
        };
        let held = held.saturating_sub(other_bytes());
        // Until the first query: what is idle later may be what a query has left behind.
        has_begun |= has_watched_queries();
        if !has_begun {
            idle = held.saturating_sub(queries_bytes());
            continue;
        }
        if exceeds_limit(held, idle, total_limit()) && grace == 0 && stop_largest_query() {
            grace = GRACE_CHECKS;
        }
    }
}

/// Whether the process, which holds `held` bytes and held `idle` before its first query, holds too much for queries.
fn exceeds_limit(held: usize, idle: usize, limit: usize) -> bool {
    let slack = (limit / 8).max(MIN_SLACK_BYTES.min(limit / 16 * 3));
    // Where the idle process is small beside the limit, it counts: all together stays below five fourths of the limit.
    let is_small = idle <= limit / 6;
    held.saturating_sub(idle) > limit.saturating_add(slack)
        || is_small && held > limit.saturating_add(limit / 16 * 3)
}

fn has_watched_queries() -> bool {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    !watched.is_empty()
}

/// Stops the query that holds most; says whether there was one.
fn stop_largest_query() -> bool {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let queries = watched.iter().filter_map(Weak::upgrade);
    let running: Vec<_> = queries.filter(|query| !query.is_stopped()).collect();
    drop(watched);
    // Small allocations are known as an upper bound only, and count where no query holds large ones.
    let greediest = largest_query(&running, QueryMemory::held_bytes)
        .or_else(|| largest_query(&running, QueryMemory::small_bytes));
    let Some((held, query)) = greediest else {
        return false;
    };
    tracing::warn!(
        held,
        "process memory exceeds serve.total_memory: stopped the query that holds most"
    );
    query.stop();
    true
}

/// Returns the query that holds most by `bytes`, if that is enough to be what the process holds too much for.
fn largest_query(
    queries: &[Arc<QueryMemory>],
    bytes: fn(&QueryMemory) -> usize,
) -> Option<(usize, &Arc<QueryMemory>)> {
    let held = queries.iter().map(|query| (bytes(query), query));
    held.filter(|(held, _)| *held >= MIN_HELD_BYTES.max(total_limit() / 16))
        .max_by_key(|(held, _)| *held)
}

/// The bytes of memory that the process has for itself alone: not those of files that are mapped.
#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
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

/// Elsewhere only large allocations are counted.
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
            assert!(!exceeds_limit(idle + limit + slack, idle, limit));
            assert!(exceeds_limit(idle + limit + slack + 1, idle, limit));
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
