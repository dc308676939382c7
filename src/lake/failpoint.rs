//! Places in a run where a test can kill the process. Release builds have none.

/// The steps of a resample run, in order; `<name>` is what `PLANTLAKE_FAILPOINT` takes.
pub const POINTS: [&str; 16] = [
    "lease-taken",
    "before-intent",
    "after-intent",
    "before-data-file",
    "after-data-file",
    "before-commit-data_min",
    "after-commit-data_min",
    "before-commit-data_h",
    "after-commit-data_h",
    "before-commit-data_d",
    "after-commit-data_d",
    "before-ledger",
    "after-ledger",
    "before-publish",
    "after-publish",
    "after-cleanup",
];

/// Passes the point `name`. In a debug build with `PLANTLAKE_FAILPOINT=name` or `name:k` in the
/// environment, the process kills itself the first or the k-th time, as `kill -9` would.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REACHED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(
        POINTS.contains(&name),
        "{name} is not in the list of failpoints"
    );
    let Ok(wanted) = std::env::var("PLANTLAKE_FAILPOINT") else {
        return;
    };
    let (wanted, nth) = wanted
        .split_once(':')
        .map_or((wanted.as_str(), 1), |(point, nth)| {
            (point, nth.parse().unwrap_or(1))
        });
    if wanted == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == nth {
        let _ = std::process::Command::new("kill")
            .args(["-9", &std::process::id().to_string()])
            .status();
        // The signal is on its way: nothing more may happen.
        std::process::abort();
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn reach(_: &str) {}

/// A memory budget in bytes that overrides the settings, however small: debug builds only, so that tests see
/// many small cells.
pub fn memory() -> Option<u64> {
    #[cfg(debug_assertions)]
    return std::env::var("PLANTLAKE_FAILPOINT_MEMORY")
        .ok()?
        .parse()
        .ok();
    #[cfg(not(debug_assertions))]
    None
}
