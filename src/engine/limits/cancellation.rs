//! Cancellation of a statement from outside, while code that cannot be interrupted plans or runs it.
//!
//! A [`CancelToken`] is cancelled when the statement exceeds its time limit or its client disconnects. The code that
//! polls a scan or an operator makes the token the current one of the thread ([`CancelToken::scope`]), so that code
//! deep inside libraries can [`check`] it between two steps of a long loop.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion::common::{DataFusionError, Result};

use crate::clock::Stopwatch;
use crate::memory;

thread_local! {
    /// The token of the statement that this thread runs.
    static CURRENT: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
    /// The time slice of the current poll on this thread.
    static SLICE: Cell<Option<(Stopwatch, Duration)>> = const { Cell::new(None) };
}

/// The error of work whose statement was cancelled. Clients see the reason instead, which the code that cancels
/// reports.
#[derive(Debug, thiserror::Error)]
#[error("the statement was cancelled")]
pub struct Cancelled;

/// Signals that a statement must stop. Cheap to clone; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Requests that all work on the statement stops.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the statement must stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error if the statement must stop.
    ///
    /// # Errors
    /// [`Cancelled`], as an external error.
    pub fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            true => Err(DataFusionError::External(Box::new(Cancelled))),
            false => Ok(()),
        }
    }

    /// Runs `work` with this token as the current one of the thread.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Restores the previous token, also when `work` panics.
        struct RestoreToken(Option<CancelToken>);
        impl Drop for RestoreToken {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _before = RestoreToken(CURRENT.replace(Some(self.clone())));
        work()
    }
}

/// Returns an error if the statement that this thread runs must stop. Call it at the start of every function call and
/// in long loops.
///
/// # Errors
/// [`Cancelled`], as an external error.
pub fn check() -> Result<()> {
    CURRENT.with_borrow(|current| current.as_ref().map_or(Ok(()), CancelToken::check))
}

/// Returns an error if the statement that this thread runs must stop, because it was cancelled or holds too much memory.
///
/// # Errors
/// [`Cancelled`], as an external error; [`DataFusionError::ResourcesExhausted`].
pub fn check_interruption() -> Result<()> {
    check()?;
    check_memory()
}

/// Returns an error if the watchdog has stopped the statement that this thread runs, because it holds too much memory.
///
/// # Errors
/// [`DataFusionError::ResourcesExhausted`].
pub fn check_memory() -> Result<()> {
    match memory::is_stopped() {
        true => Err(DataFusionError::ResourcesExhausted(
            "all queries together hold too much memory".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Runs `work`, a poll that should return to its caller after `limit`; see [`is_slice_over`].
pub fn with_time_slice<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    struct RestoreSlice(Option<(Stopwatch, Duration)>);
    impl Drop for RestoreSlice {
        fn drop(&mut self) {
            SLICE.set(self.0);
        }
    }
    let _before = RestoreSlice(SLICE.replace(Some((Stopwatch::start(), limit))));
    work()
}

/// Whether the current poll on this thread has used up its time slice. If so, a stream should return `Pending` and wake
/// itself.
pub fn is_slice_over() -> bool {
    SLICE
        .get()
        .is_some_and(|(since, limit)| since.elapsed() >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_nested_and_unwound_restores_the_token_before() {
        let (outer, inner) = (CancelToken::default(), CancelToken::default());
        outer.cancel();
        assert!(check().is_ok(), "no statement");
        outer.scope(|| {
            assert!(check().is_err());
            inner.scope(|| assert!(check().is_ok()));
            let unwound = std::panic::catch_unwind(|| inner.scope(|| panic!("as a library might")));
            assert!(unwound.is_err());
            assert!(check().is_err());
        });
        assert!(check().is_ok());
    }

    #[test]
    fn time_slice_ends_and_does_not_outlive_its_poll() {
        with_time_slice(Duration::ZERO, || assert!(is_slice_over()));
        with_time_slice(Duration::from_secs(60), || assert!(!is_slice_over()));
        assert!(!is_slice_over());
    }
}
