//! The memory that the process holds, compared with the limit of all queries.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::resident::resident_bytes;

/// Bytes of large allocations of all queries.
pub(super) static QUERIES_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Bytes of large allocations outside queries.
pub(super) static OTHER_BYTES: AtomicUsize = AtomicUsize::new(0);
/// The maximum number of bytes of all queries together.
pub(super) static TOTAL_LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Whether the resident memory of the process is close to the level at which the watchdog stops a query. Large allocations of
/// queries that hold much are then refused.
pub(super) static IS_UNDER_PRESSURE: AtomicBool = AtomicBool::new(false);

/// The minimum number of bytes by which the process may exceed the limit. The slack is an eighth of the limit, at least this,
/// and at most three sixteenths of the limit: batches between operators are some megabytes, however small the limit is.
const MIN_SLACK_BYTES: usize = 24 << 20;

/// The number of bytes that queries allocate between two samples of the resident memory.
const SAMPLE_BYTES: usize = 32 << 20;

/// The bytes that queries allocated since the last sample.
static ALLOCATED_SINCE_SAMPLE: AtomicUsize = AtomicUsize::new(0);
/// The number of queries that hold enough to grow by much before they notice that they were stopped.
pub(super) static LARGE_QUERIES: AtomicUsize = AtomicUsize::new(0);
/// The bytes that the process held before its first query.
pub(super) static IDLE_BYTES: AtomicUsize = AtomicUsize::new(0);

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
pub(super) fn update_pressure(held: usize) {
    let idle = IDLE_BYTES.load(Ordering::Relaxed);
    let is_under_pressure = is_above(held, idle, total_limit(), 3, large_queries());
    IS_UNDER_PRESSURE.store(is_under_pressure, Ordering::Relaxed);
}

/// The resident memory of the process in bytes, without mapped files and without large allocations outside queries.
pub(super) fn held_bytes() -> Option<usize> {
    Some(resident_bytes()?.saturating_sub(OTHER_BYTES.load(Ordering::Relaxed)))
}

/// Whether the process, which holds `held` bytes and held `idle` before its first query, is above `quarters` of the way from
/// the limit to the level at which a query is stopped.
///
/// Each large query grows until it notices that it was stopped, so that the level is lower, but never below the limit, if
/// there are several.
pub(super) fn is_above(
    held: usize,
    idle: usize,
    limit: usize,
    quarters: usize,
    large_queries: usize,
) -> bool {
    let reserved = (limit / 64).saturating_mul(large_queries.saturating_sub(1));
    let slack = (limit / 8).max(MIN_SLACK_BYTES.min(limit / 16 * 3));
    let (slack, small_slack) = (
        slack.saturating_sub(reserved),
        (limit / 8).saturating_sub(reserved),
    );
    // If the idle process is small compared with the limit, it counts: with the program's own pages, which are not counted here,
    // the total then stays below five fourths of the limit.
    let is_small = idle <= limit / 6;
    held.saturating_sub(idle) > limit.saturating_add(slack / 4 * quarters)
        || is_small && held > limit.saturating_add(small_slack / 4 * quarters)
}

/// The number of large queries at the last check.
pub(super) fn large_queries() -> usize {
    LARGE_QUERIES.load(Ordering::Relaxed)
}

/// The maximum number of bytes of all queries together.
pub(super) fn total_limit() -> usize {
    TOTAL_LIMIT.load(Ordering::Relaxed)
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
            assert!(!is_above(level, idle, limit, 4, 1));
            assert!(is_above(level + 1, idle, limit, 4, 1));
            assert!(!is_above(idle + limit, idle, limit, 3, 1));
            assert!(is_above(level, idle, limit, 3, 1));
        }
    }

    #[test]
    fn several_large_queries_lower_the_level_to_the_limit_at_most() {
        let (idle, limit) = (0, 1 << 30);
        for (queries, slack) in [(0, 128), (1, 128), (2, 112), (6, 48), (9, 0), (1000, 0)] {
            let level = limit + (slack << 20);
            assert!(!is_above(level, idle, limit, 4, queries), "{queries}");
            assert!(is_above(level + 1, idle, limit, 4, queries), "{queries}");
        }
    }
}
