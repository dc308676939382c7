//! The memory of one query, as the allocator counts it. Every allocation of at least [`LARGE_BYTES`] is charged to the query
//! on whose behalf it is made, and fails if it exceeds the query's limit.
//!
//! [`DataFusion's memory pool`](https://docs.rs/datafusion) counts the bytes that operators report. This module counts real
//! allocations, also those that no operator reports: a heap reserved for a trillion rows, a text that a function repeats.

use std::any::Any;
use std::cell::Cell;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::Stream;

use super::pressure::{
    IS_UNDER_PRESSURE, OTHER_BYTES, QUERIES_BYTES, TOTAL_LIMIT, sample_after, total_limit,
};

/// The minimum size in bytes of an allocation that is charged: more than a column of numbers of a batch of 8,192 rows. A
/// smaller one costs the allocator one comparison.
pub(super) const LARGE_BYTES: usize = (64 << 10) + 1;
/// The minimum of the limit of a query in bytes, so that a small `serve.query_memory` does not end queries that only stream.
const MIN_LIMIT_BYTES: usize = 256 << 20;
/// A query that holds fewer bytes than this is not refused memory when all queries together reach their limit: larger
/// queries fail first.
const EXEMPT_BYTES: usize = 16 << 20;
/// The beginning of the text of every failure for lack of memory.
const OUT_OF_MEMORY: &str = "the query exceeded its memory limit";

/// The limit of one query in bytes.
static QUERY_LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Whether a refused allocation unwinds; if it would abort the process, none is refused.
static IS_ENFORCED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The query that the thread works for; null for none. It outlives the scope that has set it.
    static CURRENT: Cell<*const QueryMemory> = const { Cell::new(ptr::null()) };
    /// Bytes in small allocations that the thread has made for its query, less those that it has freed, and has not noted yet.
    static UNREPORTED_SMALL_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// The change of small allocations after which a thread notes it, in bytes.
const SMALL_REPORT_BYTES: usize = 1 << 20;

/// Counts `bytes` of a small allocation for the thread's query; a negative number is freed.
#[inline]
pub(super) fn count_small(bytes: isize) {
    let all = UNREPORTED_SMALL_BYTES.get().wrapping_add(bytes);
    UNREPORTED_SMALL_BYTES.set(all);
    if all.unsigned_abs() > SMALL_REPORT_BYTES {
        report_small();
    }
}

/// Notes the thread's small allocations with its query.
#[cold]
#[expect(unsafe_code, reason = "the thread's pointer is read")]
fn report_small() {
    let bytes = UNREPORTED_SMALL_BYTES.replace(0);
    sample_after(usize::try_from(bytes).unwrap_or(0));
    let current = CURRENT.get();
    if !current.is_null() {
        // SAFETY: it was set from an `Arc` by `enter`, which borrows that for as long as it is set.
        unsafe { (*current).small_bytes.fetch_add(bytes, Ordering::Relaxed) };
    }
}

/// Whether the query that the calling thread works for must end.
#[expect(unsafe_code, reason = "the thread's pointer is read")]
pub fn is_stopped() -> bool {
    let current = CURRENT.get();
    // SAFETY: it was set from an `Arc` by `enter`, which borrows that for as long as it is set.
    !current.is_null() && unsafe { (*current).is_stopped() }
}

/// The memory of one query.
#[derive(Debug)]
pub struct QueryMemory {
    /// Bytes in large allocations.
    allocated_bytes: AtomicUsize,
    /// Bytes that its operators have reserved.
    reserved_bytes: AtomicUsize,
    /// Bytes in small allocations, less those that were freed on its behalf. What other threads free, such as those that
    /// send messages, is not known, so that this is an upper bound.
    small_bytes: AtomicIsize,
    /// Whether it asked for more than it may have.
    is_exhausted: AtomicBool,
    /// Whether it must end, because the process holds too much.
    is_stopped: AtomicBool,
}

/// Sets the limits of each query and of all together, in bytes: as the settings `serve.query_memory` and
/// `serve.total_memory` say. The limit of what is allocated is twice what operators may reserve, since a vector that
/// grows is held twice for a moment.
pub fn set_query_limits(query_bytes: usize, total_bytes: usize) {
    let limit = query_bytes.saturating_mul(2).max(MIN_LIMIT_BYTES);
    QUERY_LIMIT.store(limit.min(total_bytes), Ordering::Relaxed);
    TOTAL_LIMIT.store(total_bytes, Ordering::Relaxed);
}

/// Refuses allocations past the limits from now on. To be called when [`on_alloc_error`] is installed, and not before:
/// without it, a refused allocation aborts the process.
pub fn enforce_limits() {
    IS_ENFORCED.store(true, Ordering::Relaxed);
}

/// Unwinds from a failed allocation of a query, or from any large one, so that what made it ends and nothing else. Returns
/// where the process has to be aborted: in the midst of another unwinding, or when little memory is refused to what is no
/// query.
pub fn on_alloc_error(layout: std::alloc::Layout) {
    let query = QueryMemory::current();
    if std::thread::panicking() || (query.is_none() && layout.size() < LARGE_BYTES) {
        return;
    }
    unwind(query.as_deref(), layout.size());
}

/// Ends the work of the calling thread because memory is exhausted. No panic hook is called: it is no mistake of the program.
fn unwind(query: Option<&QueryMemory>, bytes: usize) -> ! {
    if let Some(query) = query {
        query.is_exhausted.store(true, Ordering::Relaxed);
    }
    let text = format!("{OUT_OF_MEMORY}: cannot allocate {bytes} bytes");
    std::panic::resume_unwind(Box::new(text))
}

/// The texts with which libraries panic when something would be larger than can be allocated or addressed.
const EXHAUSTION_TEXTS: [&str; 3] = [OUT_OF_MEMORY, "capacity overflow", "offset overflow"];

/// Whether work ended by unwinding with `panic` because it would have taken too much memory.
pub fn is_out_of_memory(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.is_some_and(is_exhaustion_text)
}

/// Whether the text of a panic, or of an error that quotes one, says that too much memory would have been taken.
pub fn is_exhaustion_text(text: &str) -> bool {
    EXHAUSTION_TEXTS.iter().any(|part| text.contains(part))
}

/// Whether the query that the calling thread works for has asked for more memory than it may have. Whatever error it ended
/// with is then a consequence.
pub fn is_exhausted() -> bool {
    QueryMemory::current().is_some_and(|query| query.is_exhausted())
}

impl QueryMemory {
    /// A query that holds nothing yet.
    pub fn start() -> Arc<Self> {
        Arc::new(Self {
            allocated_bytes: AtomicUsize::new(0),
            reserved_bytes: AtomicUsize::new(0),
            small_bytes: AtomicIsize::new(0),
            is_exhausted: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        })
    }

    /// The query that the calling thread works for.
    #[expect(unsafe_code, reason = "the thread's pointer becomes a handle again")]
    pub fn current() -> Option<Arc<Self>> {
        let current = CURRENT.get();
        if current.is_null() {
            return None;
        }
        // SAFETY: it was set from an `Arc` by `enter`, which borrows that for as long as it is set.
        unsafe {
            Arc::increment_strong_count(current);
            Some(Arc::from_raw(current))
        }
    }

    /// Does `work` on behalf of this query.
    pub fn enter<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        struct RestoreCurrent(*const QueryMemory);
        impl Drop for RestoreCurrent {
            fn drop(&mut self) {
                report_small();
                CURRENT.set(self.0);
            }
        }
        report_small();
        let _before = RestoreCurrent(CURRENT.replace(Arc::as_ptr(self)));
        if self.is_stopped.load(Ordering::Relaxed) && !std::thread::panicking() {
            unwind(Some(self), self.held_bytes());
        }
        work()
    }

    /// The same future or stream, polled on behalf of this query.
    pub fn charge_to<W>(self: &Arc<Self>, work: W) -> Charged<W> {
        Charged {
            memory: Arc::clone(self),
            work,
        }
    }

    /// Whether it asked for more than it may have.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.load(Ordering::Relaxed)
    }

    /// Whether it must end.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Ends the query the next time that a thread enters it.
    pub(super) fn stop(&self) {
        self.is_exhausted.store(true, Ordering::Relaxed);
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Notes how many bytes its operators have reserved.
    pub fn set_reserved(&self, bytes: usize) {
        self.reserved_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The bytes that it holds, about: operators reserve some of what is allocated.
    pub(super) fn held_bytes(&self) -> usize {
        let allocated = self.allocated_bytes.load(Ordering::Relaxed);
        allocated.max(self.reserved_bytes.load(Ordering::Relaxed))
    }

    /// The bytes in small allocations, at most; see [`Self::held_bytes`] for the others.
    pub(super) fn small_bytes(&self) -> usize {
        usize::try_from(self.small_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Charges `bytes`. Returns `false` without a charge if they exceed a limit and `is_refusable` is set.
    fn try_charge(&self, bytes: usize, is_refusable: bool) -> bool {
        let own = self.allocated_bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = QUERIES_BYTES.fetch_add(bytes, Ordering::Relaxed);
        let own = own.saturating_add(bytes);
        sample_after(bytes);
        let is_past = own > QUERY_LIMIT.load(Ordering::Relaxed)
            || (own > EXEMPT_BYTES
                && (all.saturating_add(bytes) > total_limit()
                    || IS_UNDER_PRESSURE.load(Ordering::Relaxed)))
            || self.is_stopped();
        // Destructors that run while a thread unwinds must not fail: the process would abort.
        if !is_past
            || !is_refusable
            || !IS_ENFORCED.load(Ordering::Relaxed)
            || std::thread::panicking()
        {
            return true;
        }
        self.release(bytes);
        self.is_exhausted.store(true, Ordering::Relaxed);
        false
    }

    fn release(&self, bytes: usize) {
        self.allocated_bytes.fetch_sub(bytes, Ordering::Relaxed);
        QUERIES_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The owner of a large allocation: a handle to its query, as a pointer; null for none.
#[derive(Clone, Copy)]
pub(super) struct Owner(*const QueryMemory);

#[expect(
    unsafe_code,
    reason = "handles to queries are kept as pointers in allocations"
)]
impl Owner {
    /// The query that the calling thread works for.
    pub fn current() -> Self {
        Self(CURRENT.get())
    }

    /// This one, or `other` if this is nobody.
    pub fn or(self, other: Self) -> Self {
        if self.0.is_null() { other } else { self }
    }

    /// Charges `bytes`; says whether they may be allocated, which is always so where they are not `is_refusable`.
    ///
    /// # Safety
    /// The owner is the current one, or that of an allocation that is still there.
    pub unsafe fn try_charge(self, bytes: usize, is_refusable: bool) -> bool {
        if self.0.is_null() {
            OTHER_BYTES.fetch_add(bytes, Ordering::Relaxed);
            return true;
        }
        // SAFETY: a handle to it is held, as the caller promises.
        let is_taken = unsafe { (*self.0).try_charge(bytes, is_refusable) };
        if is_taken {
            // SAFETY: the same.
            unsafe { Arc::increment_strong_count(self.0) };
        }
        is_taken
    }

    /// Gives back what was charged.
    ///
    /// # Safety
    /// Each charge is given back once.
    pub unsafe fn release(self, bytes: usize) {
        if self.0.is_null() {
            OTHER_BYTES.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        // SAFETY: the charge holds a handle, which ends here.
        unsafe {
            (*self.0).release(bytes);
            Arc::decrement_strong_count(self.0);
        }
    }
}

/// A future or a stream that is polled on behalf of a query.
#[derive(Debug)]
pub struct Charged<W> {
    memory: Arc<QueryMemory>,
    work: W,
}

impl<W> Charged<W> {
    /// The memory that it is charged to.
    pub fn memory(&self) -> &Arc<QueryMemory> {
        &self.memory
    }

    /// Puts `work` in place of what was polled until now, and returns that.
    pub fn replace(&mut self, work: W) -> W {
        std::mem::replace(&mut self.work, work)
    }
}

impl<W: Future + Unpin> Future for Charged<W> {
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<W::Output> {
        let this = &mut *self;
        let work = &mut this.work;
        this.memory.enter(|| Pin::new(work).poll(context))
    }
}

impl<W: Stream + Unpin> Stream for Charged<W> {
    type Item = W::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<W::Item>> {
        let this = &mut *self;
        let work = &mut this.work;
        this.memory.enter(|| Pin::new(work).poll_next(context))
    }
}
