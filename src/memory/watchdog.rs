//! Ends the query that holds most when the process holds too much memory, whatever it consists of.
//!
//! The allocator counts only large allocations exactly. Many small ones, and freed pages that the allocator has not returned
//! yet, are seen here, in the resident memory of the process.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use super::pages::collect_now;
use super::pressure::{
    IDLE_BYTES, LARGE_QUERIES, QUERIES_BYTES, held_bytes, is_above, large_queries, total_limit,
    update_pressure,
};
use super::query_memory::QueryMemory;
use super::resident::resident_bytes;
use crate::clock::Stopwatch;

/// The interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// The interval between two checks while the process is near its limit. Two cores fill about 10 MB in that time.
const NEAR_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// The time that a stopped query has to free its memory before another one is stopped, unless the process grows on.
const GRACE: Duration = Duration::from_secs(1);
/// The minimum number of bytes of a query that is stopped.
const MIN_HELD_BYTES: usize = 32 << 20;

/// The number of bytes from which a query counts as large.
const LARGE_QUERY_BYTES: usize = 16 << 20;

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
    let mut grace = Grace(None);
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
        LARGE_QUERIES.store(count_large_queries(), Ordering::Relaxed);
        if !has_begun {
            let queries = QUERIES_BYTES.load(Ordering::Relaxed);
            IDLE_BYTES.store(held.saturating_sub(queries), Ordering::Relaxed);
            continue;
        }
        let (idle, limit) = (IDLE_BYTES.load(Ordering::Relaxed), total_limit());
        is_near = held.saturating_sub(idle) > limit / 8 * 7;
        if is_near {
            // Pages that were freed less than the purge delay ago count as resident, too.
            collect_now();
            held = held_bytes().unwrap_or(held);
        }
        update_pressure(held);
        let is_over = is_above(held, idle, limit, 4, large_queries());
        if grace.has_ended(is_over, held, limit) && stop_largest_query() {
            grace.start(held);
        }
    }
}

/// The time that a stopped query has to free its memory, and what the process held when it was stopped.
struct Grace(Option<(Stopwatch, usize)>);

impl Grace {
    fn start(&mut self, held: usize) {
        self.0 = Some((Stopwatch::start(), held));
    }

    /// Whether a query must be stopped, in a process that holds `held` bytes, which may be too many.
    fn has_ended(&mut self, is_too_much: bool, held: usize, limit: usize) -> bool {
        if !is_too_much {
            // The stopped query has freed its memory: the next one that grows must not get its grace.
            self.0 = None;
            return false;
        }
        let has_grace = self.0.as_ref().is_some_and(|(since, level)| {
            since.elapsed() < GRACE && held < level.saturating_add(limit / 64)
        });
        !has_grace
    }
}

fn has_watched_queries() -> bool {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    !watched.is_empty()
}

/// Returns the number of queries that hold much and were not stopped.
fn count_large_queries() -> usize {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let running = watched.iter().filter_map(Weak::upgrade);
    let is_large = |query: &Arc<QueryMemory>| {
        !query.is_stopped() && query.held_bytes().max(query.small_bytes()) > LARGE_QUERY_BYTES
    };
    running.filter(is_large).count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_ends_when_memory_is_free_or_grows_on() {
        let (limit, mut grace) = (1 << 30, Grace(None));
        assert!(!grace.has_ended(false, limit, limit));
        let held = limit + (100 << 20);
        assert!(grace.has_ended(true, held, limit));
        grace.start(held);
        assert!(!grace.has_ended(true, held + (15 << 20), limit));
        assert!(grace.has_ended(true, held + (16 << 20), limit));
        // Each of many queries that grow one after another would hold more than the one before it.
        assert!(!grace.has_ended(false, limit, limit));
        assert!(grace.has_ended(true, held, limit));
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
