//! Counts the bytes of the lake's files that are read for a query.
//!
//! File readers are created deep inside libraries that pass no context on. So the code that polls a scan sets the
//! counter: while a scan is polled, the reads of its thread count for its [`ScannedBytes`].

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// The counter for the reads of this thread.
    static CURRENT: RefCell<Option<ScannedBytes>> = const { RefCell::new(None) };
}

/// The number of bytes requested from files, including those that the operating system's cache serves. Cheap to clone;
/// clones share one count.
#[derive(Debug, Clone, Default)]
pub struct ScannedBytes(Arc<AtomicU64>);

impl ScannedBytes {
    /// Returns the number of bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds bytes that were not read from a file on this thread.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Runs `work`, and counts the reads of this thread meanwhile.
    pub fn count_reads_during<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let done = work();
        CURRENT.set(before);
        done
    }
}

/// Counts bytes that are about to be read.
pub fn count_scanned_bytes(bytes: u64) {
    CURRENT.with_borrow(|scanned| {
        if let Some(ScannedBytes(count)) = scanned {
            count.fetch_add(bytes, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanned_bytes_count_for_innermost_counter() {
        let (outer, inner) = (ScannedBytes::default(), ScannedBytes::default());
        count_scanned_bytes(1);
        outer.count_reads_during(|| {
            count_scanned_bytes(2);
            inner.count_reads_during(|| count_scanned_bytes(4));
            count_scanned_bytes(8);
        });
        count_scanned_bytes(16);
        assert_eq!((outer.bytes(), inner.bytes()), (10, 4));
    }
}
