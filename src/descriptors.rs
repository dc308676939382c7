//! The limit of open files: raised at the start, and shared between connections and everything else.

/// Descriptors that are kept for files, databases and logs where the limit is large enough.
const MAX_RESERVED: usize = 1024;

/// Raises the soft limit of open files to the hard limit. The usual soft limit of 1,024 is there for programs that use
/// `select`; this one does not.
#[cfg(unix)]
#[expect(unsafe_code, reason = "C functions that read and set two numbers")]
pub fn raise_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both functions only access the struct, which outlives the calls. If they fail, the limit stays as it is.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0
            && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
pub fn raise_limit() {}

/// The soft limit of open files; `usize::MAX` if there is none.
#[cfg(unix)]
#[expect(unsafe_code, reason = "a C function that reads two numbers")]
fn limit() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the function only writes to the struct, which outlives the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
}

#[cfg(not(unix))]
fn limit() -> usize {
    usize::MAX
}

/// Returns how many of `wanted` connections may be open, so that descriptors are left for everything else.
pub fn available_for_connections(wanted: usize) -> usize {
    share(wanted, limit())
}

fn share(wanted: usize, limit: usize) -> usize {
    let reserved = (limit / 2).min(MAX_RESERVED);
    wanted.min(limit - reserved).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_leaves_half_of_a_small_limit_and_1024_of_a_large_one() {
        assert_eq!(share(4_096, 256), 128);
        assert_eq!(share(4_096, 1_024), 512);
        assert_eq!(share(4_096, 4_096), 3_072);
        assert_eq!(share(4_096, usize::MAX), 4_096);
        assert_eq!(share(4_096, 0), 1);
        assert_eq!(share(100, 1_024), 100);
    }
}
