//! The resident memory of this process.

#[cfg(target_os = "linux")]
use std::io::Read;

/// The resident memory of the process in bytes, without mapped files.
#[cfg(target_os = "linux")]
pub(super) fn resident_bytes() -> Option<usize> {
    // Into a buffer on the stack: the allocator calls this, too.
    let mut text = [0; 128];
    let read = std::fs::File::open("/proc/self/statm")
        .ok()?
        .read(&mut text)
        .ok()?;
    let pages = std::str::from_utf8(text.get(..read)?).ok()?;
    let mut pages = pages.split(' ').skip(1).map(str::parse::<usize>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared).saturating_mul(page_bytes()))
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a C function that returns a number")]
fn page_bytes() -> usize {
    // SAFETY: it touches no memory.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// On other systems only large allocations are counted.
#[cfg(not(target_os = "linux"))]
pub(super) fn resident_bytes() -> Option<usize> {
    None
}
