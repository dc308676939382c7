//! Points in a run at which a test can kill or stop the process. Release builds have none.

/// The names of all points, as `PLANTLAKE_FAILPOINT` takes them: first those of runs that change the lake, in order,
/// then those of a mirror run, of a backup and of a restore.
pub const POINTS: [&str; 48] = [
    "lease-taken",
    "before-intent",
    "after-intent",
    "archive-founded",
    "before-data-file",
    "after-data-file",
    "after-raw-copy",
    "before-commit-archive",
    "after-commit-archive",
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
    "after-swept-raw",
    "after-swept-archive",
    "after-swept-file",
    "after-checkpoint",
    "after-cleanup",
    "mirror-locked",
    "mirror-begun",
    "mirror-after-assets",
    "mirror-in-copy",
    "mirror-after-copy",
    "mirror-after-delete",
    "mirror-after-insert",
    "mirror-after-table",
    "mirror-before-commit",
    "mirror-after-commit",
    "mirror-after-prune-step",
    "mirror-before-tidy",
    "mirror-after-tidy",
    "backup-begun",
    "backup-after-part",
    "backup-in-database",
    "backup-before-place",
    "backup-after-place",
    "restore-staged-file",
    "restore-in-database",
    "restore-before-commit",
    "restore-after-commit",
    "restore-after-file",
    "restore-done",
];

/// Passes the point `name`. In a debug build with `PLANTLAKE_FAILPOINT=name` or `name:k` in the environment, the
/// process kills itself as `kill -9` would when it passes the point for the first or the k-th time. With
/// `PLANTLAKE_FAILPOINT_STOP` it stops itself until it gets `SIGCONT`.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::atomic::AtomicU64;
    static KILLS: AtomicU64 = AtomicU64::new(0);
    static STOPS: AtomicU64 = AtomicU64::new(0);
    debug_assert!(
        POINTS.contains(&name),
        "{name} is not in the list of failpoints"
    );
    if is_reached("PLANTLAKE_FAILPOINT_STOP", name, &STOPS) {
        send_signal("-STOP");
        // The signal may be delivered to another thread first; this thread must not continue before the process stops.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    if is_reached("PLANTLAKE_FAILPOINT", name, &KILLS) {
        send_signal("-9");
        // The signal may still be on its way, and nothing more may happen.
        std::process::abort();
    }
}

/// Whether `variable` names this point, and the point is reached as often as the variable says.
#[cfg(debug_assertions)]
fn is_reached(variable: &str, name: &str, reached: &std::sync::atomic::AtomicU64) -> bool {
    use std::sync::atomic::Ordering;
    let Ok(wanted) = std::env::var(variable) else {
        return false;
    };
    let (wanted, nth) = wanted
        .split_once(':')
        .map_or((wanted.as_str(), 1), |(point, nth)| {
            (point, nth.parse().unwrap_or(1))
        });
    wanted == name && reached.fetch_add(1, Ordering::SeqCst) + 1 == nth
}

#[cfg(debug_assertions)]
fn send_signal(signal: &str) {
    let _ = std::process::Command::new("kill")
        .args([signal, &std::process::id().to_string()])
        .status();
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn reach(_: &str) {}

/// Returns a memory budget in bytes that overrides the settings and may be smaller than they allow, so that tests get
/// many small cells. Always `None` in a release build.
pub fn memory_budget() -> Option<u64> {
    #[cfg(debug_assertions)]
    return std::env::var("PLANTLAKE_FAILPOINT_MEMORY")
        .ok()?
        .parse()
        .ok();
    #[cfg(not(debug_assertions))]
    None
}

/// Returns the time that replaces the clock's (RFC 3339 in `PLANTLAKE_FAILPOINT_NOW`), so that tests can let time pass.
/// Always `None` in a release build.
pub fn now() -> Option<chrono::DateTime<chrono::Utc>> {
    #[cfg(debug_assertions)]
    return std::env::var("PLANTLAKE_FAILPOINT_NOW").ok()?.parse().ok();
    #[cfg(not(debug_assertions))]
    None
}

/// Whether the tables have further columns, as in a later version of plantlake: in a debug build with
/// `PLANTLAKE_FAILPOINT_COLUMNS` in the environment. Always false in a release build.
pub fn has_later_columns() -> bool {
    #[cfg(debug_assertions)]
    return std::env::var_os("PLANTLAKE_FAILPOINT_COLUMNS").is_some();
    #[cfg(not(debug_assertions))]
    false
}

/// Blocks all threads of the current runtime for good, as a library that computes without yielding would. Does so in a
/// debug build with `PLANTLAKE_FAILPOINT_BLOCK` in the environment, after that many milliseconds.
pub fn block_threads() {
    #[cfg(debug_assertions)]
    if let Ok(Ok(delay)) = std::env::var("PLANTLAKE_FAILPOINT_BLOCK").map(|delay| delay.parse()) {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        for _ in 0..threads {
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
                loop {
                    std::thread::park();
                }
            });
        }
    }
}
