//! The program's allocator: mimalloc, with a record of the owner of each large allocation.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use mimalloc::MiMalloc;

use super::query_memory::{LARGE_BYTES, Owner, count_small};

/// Bytes ahead of a large allocation at least, in which its owner is. More than a pointer takes, so that what follows
/// begins on a cache line.
const HEADER_BYTES: usize = 64;

/// mimalloc, whose large allocations are charged to queries ([`super::query_memory::QueryMemory`]). An allocation that goes past a
/// query's limit fails, as if there were no memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// Returns the number of bytes from the start of a large block to the requested memory.
fn header_bytes(layout: Layout) -> usize {
    layout.align().max(HEADER_BYTES)
}

/// The layout of the whole block; none if it is beyond what can be addressed.
fn block_layout(layout: Layout, bytes: usize) -> Option<Layout> {
    let header = header_bytes(layout);
    Layout::from_size_align(
        bytes.checked_add(header)?,
        layout.align().max(align_of::<Owner>()),
    )
    .ok()
}

// SAFETY: each method does what mimalloc does, which keeps the contract. A block of at least `LARGE_BYTES` has a header, and
// is freed with a layout of the same size. Nothing here unwinds.
#[expect(unsafe_code, reason = "implements an allocator")]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match layout.size() < LARGE_BYTES {
            true => {
                count_small(layout.size().cast_signed());
                // SAFETY: as the caller promises.
                unsafe { MiMalloc.alloc(layout) }
            }
            // SAFETY: the same.
            false => unsafe { alloc_large(layout, |block| MiMalloc.alloc(block)) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match layout.size() < LARGE_BYTES {
            true => {
                count_small(layout.size().cast_signed());
                // SAFETY: as the caller promises.
                unsafe { MiMalloc.alloc_zeroed(layout) }
            }
            // SAFETY: the same.
            false => unsafe { alloc_large(layout, |block| MiMalloc.alloc_zeroed(block)) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match layout.size() < LARGE_BYTES {
            true => {
                count_small(-layout.size().cast_signed());
                // SAFETY: as the caller promises.
                unsafe { MiMalloc.dealloc(at, layout) }
            }
            // SAFETY: the same.
            false => unsafe { dealloc_large(at, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        match layout.size() < LARGE_BYTES && bytes < LARGE_BYTES {
            true => {
                count_small(bytes.cast_signed() - layout.size().cast_signed());
                // SAFETY: as the caller promises.
                unsafe { MiMalloc.realloc(at, layout, bytes) }
            }
            // SAFETY: the same.
            false => unsafe { realloc_large(at, layout, bytes) },
        }
    }
}

/// # Safety
/// `alloc` allocates a block of the layout that it is given.
#[expect(unsafe_code, reason = "implements an allocator")]
#[inline(never)]
unsafe fn alloc_large(layout: Layout, alloc: impl FnOnce(Layout) -> *mut u8) -> *mut u8 {
    let Some(block_layout) = block_layout(layout, layout.size()) else {
        return ptr::null_mut();
    };
    let owner = Owner::current();
    // SAFETY: it is the current one.
    if !unsafe { owner.try_charge(layout.size(), true) } {
        return ptr::null_mut();
    }
    let block = alloc(block_layout);
    if block.is_null() {
        // SAFETY: it was charged above.
        unsafe { owner.release(layout.size()) };
        return block;
    }
    // SAFETY: the block has room for the header, and is aligned for it.
    unsafe {
        block.cast::<Owner>().write(owner);
        block.add(header_bytes(layout))
    }
}

/// # Safety
/// As [`GlobalAlloc::dealloc`], of a large allocation.
#[expect(unsafe_code, reason = "implements an allocator")]
#[inline(never)]
unsafe fn dealloc_large(at: *mut u8, layout: Layout) {
    // SAFETY: `alloc_large` has put the header there.
    unsafe {
        let block = at.sub(header_bytes(layout));
        let owner = block.cast::<Owner>().read();
        // mimalloc finds out the size by itself.
        MiMalloc.dealloc(block, layout);
        owner.release(layout.size());
    }
}

/// # Safety
/// As [`GlobalAlloc::realloc`], of an allocation that is large or becomes so.
#[expect(unsafe_code, reason = "implements an allocator")]
#[inline(never)]
unsafe fn realloc_large(at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
    if layout.size() < LARGE_BYTES || bytes < LARGE_BYTES {
        // SAFETY: `bytes` is no more than can be addressed, as the caller promises, and not 0.
        return unsafe { realloc_by_copy(at, layout, bytes) };
    }
    let Some(new_layout) = block_layout(layout, bytes) else {
        return ptr::null_mut();
    };
    // SAFETY: `alloc_large` has put the header there, and both owners hold a handle. Old and new are charged together,
    // because they may be there together.
    unsafe {
        let block = at.sub(header_bytes(layout));
        let old_owner = block.cast::<Owner>().read();
        let owner = old_owner.or(Owner::current());
        if !owner.try_charge(bytes, bytes > layout.size()) {
            return ptr::null_mut();
        }
        let old_layout = Layout::from_size_align_unchecked(layout.size(), new_layout.align());
        let new = MiMalloc.realloc(block, old_layout, new_layout.size());
        if new.is_null() {
            owner.release(bytes);
            return new;
        }
        new.cast::<Owner>().write(owner);
        old_owner.release(layout.size());
        new.add(header_bytes(layout))
    }
}

/// # Safety
/// As [`GlobalAlloc::realloc`].
#[expect(unsafe_code, reason = "implements an allocator")]
unsafe fn realloc_by_copy(at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
    // SAFETY: the new layout is as the caller promises; both allocations are of at least the length that is copied.
    unsafe {
        let new_layout = Layout::from_size_align_unchecked(bytes, layout.align());
        let new = Allocator.alloc(new_layout);
        if !new.is_null() {
            ptr::copy_nonoverlapping(at, new, layout.size().min(bytes));
            Allocator.dealloc(at, layout);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::query_memory::QueryMemory;
    use crate::memory::query_memory::{enforce_limits, set_query_limits};

    const MIB: usize = 1 << 20;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    /// Allocates, writes and reads at both ends, and frees elsewhere.
    #[expect(unsafe_code, reason = "calls an allocator")]
    fn use_block(layout: Layout, larger: usize) {
        // SAFETY: what is written and read is within the block, whose layout goes along.
        let (at, layout) = unsafe {
            let at = Allocator.alloc_zeroed(layout);
            assert_eq!(at.align_offset(layout.align()), 0);
            assert_eq!((*at, *at.add(layout.size() - 1)), (0, 0));
            at.add(layout.size().min(larger) - 1).write(7);
            let grown = Allocator.realloc(at, layout, larger);
            assert_eq!(grown.align_offset(layout.align()), 0);
            assert_eq!(*grown.add(layout.size().min(larger) - 1), 7);
            (
                grown as usize,
                Layout::from_size_align(larger, layout.align()).unwrap(),
            )
        };
        let freed = std::thread::spawn(move || {
            // SAFETY: it was allocated with this layout, and is used no more.
            unsafe { Allocator.dealloc(at as *mut u8, layout) }
        });
        freed.join().unwrap();
    }

    #[test]
    fn allocation_of_any_size_is_charged_while_it_is_there() {
        let query = QueryMemory::start();
        for align in [1, 8, 64, 4096] {
            for (bytes, larger) in [
                (100, 200),
                (100, 2 * MIB),
                (2 * MIB, 100),
                (2 * MIB, 3 * MIB),
                (3 * MIB, 2 * MIB),
                (MIB, MIB - 1),
            ] {
                query.enter(|| use_block(layout(bytes, align), larger));
                use_block(layout(bytes, align), larger);
                assert_eq!(query.held_bytes(), 0, "{bytes} to {larger} at {align}");
            }
        }
        query.enter(|| {
            // SAFETY: the layout is the same.
            #[expect(unsafe_code, reason = "calls an allocator")]
            unsafe {
                let block = Allocator.alloc(layout(5 * MIB, 8));
                assert_eq!(query.held_bytes(), 5 * MIB);
                Allocator.dealloc(block, layout(5 * MIB, 8));
            }
        });
        assert_eq!(query.held_bytes(), 0);
    }

    #[test]
    #[expect(unsafe_code, reason = "calls an allocator")]
    fn allocation_past_the_limit_of_a_query_fails_and_takes_nothing() {
        set_query_limits(1 << 40, 1 << 41);
        enforce_limits();
        let query = QueryMemory::start();
        query.enter(|| {
            // SAFETY: refused allocations are null, and are not accessed.
            unsafe {
                assert!(Allocator.alloc(layout(1 << 45, 8)).is_null());
                let block = Allocator.alloc(layout(MIB, 8));
                assert!(Allocator.realloc(block, layout(MIB, 8), 1 << 45).is_null());
                // It is as it was.
                block.add(MIB - 1).write(1);
                Allocator.dealloc(block, layout(MIB, 8));
            }
        });
        assert!(query.is_exhausted());
        assert_eq!(query.held_bytes(), 0);
    }
}
