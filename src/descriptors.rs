//! Raises the limit of open files when the program starts, and divides it between connections and all other uses.

/// The maximum number of descriptors reserved for files, databases and logs.
const MAX_RESERVED: usize = 1024;

/// Raises the soft limit of open files to the hard limit. The usual soft limit of 1,024 protects programs that use `select`;
/// plantlake does not use it.
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

/// Does nothing: only Unix has this limit.
#[cfg(not(unix))]
pub fn raise_limit() {}

/// Returns the soft limit of open files, or `usize::MAX` if it cannot be read or represented.
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

/// Returns how many of the `wanted` connections may be open at once, at least 1, so that enough descriptors remain for other
/// uses.
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
