//! Counts the bytes of the lake's files that are read on somebody's behalf.
//!
//! Readers are made deep inside of libraries, which pass nothing on that could say whom they are for. So whoever polls
//! says it: while a scan is polled, what its thread reads counts for [`Scanned`].

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// Whom this thread reads for at the moment.
    static FOR: RefCell<Option<Scanned>> = const { RefCell::new(None) };
}

/// How many bytes were asked of files; those that came out of a cache of the system's, too. Cheap to clone; clones count
/// together.
#[derive(Debug, Clone, Default)]
pub struct Scanned(Arc<AtomicU64>);

impl Scanned {
    /// How many it were so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts bytes that were not asked of a file on this thread.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Does `work`; what it reads on this thread is counted.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = FOR.replace(Some(self.clone()));
        let done = work();
        FOR.set(before);
        done
    }
}

/// Counts bytes that are about to be read.
pub fn count(bytes: u64) {
    FOR.with_borrow(|scanned| {
        if let Some(Scanned(count)) = scanned {
            count.fetch_add(bytes, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_counts_for_whom_it_is_read() {
        let (outer, inner) = (Scanned::default(), Scanned::default());
        count(1);
        outer.during(|| {
            count(2);
            inner.during(|| count(4));
            count(8);
        });
        count(16);
        assert_eq!((outer.bytes(), inner.bytes()), (10, 4));
    }
}
