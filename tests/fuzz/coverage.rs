//! Edge coverage of the library, if `tests/fuzz/with-coverage` compiled it. A plain `cargo test` has no counters, so the
//! coverage is empty.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The addresses at which the counters begin and end. A counter is one byte. Both are zero without coverage.
static COUNTERS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
/// The addresses at which the table of code locations begins and ends. An entry has two words; the first is the address.
static PLACES: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

#[expect(unsafe_code, reason = "the compiler calls it by this name")]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(begin: *mut u8, end: *mut u8) {
    COUNTERS[0].store(begin as usize, Ordering::Relaxed);
    COUNTERS[1].store(end as usize, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "the compiler calls it by this name")]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_pcs_init(begin: *const usize, end: *const usize) {
    PLACES[0].store(begin as usize, Ordering::Relaxed);
    PLACES[1].store(end as usize, Ordering::Relaxed);
}

/// The edges that were reached so far.
pub struct Coverage {
    seen: Vec<bool>,
    reached: usize,
}

impl Coverage {
    /// Returns a coverage without reached edges.
    pub fn new() -> Self {
        let [begin, end] = COUNTERS.each_ref().map(|at| at.load(Ordering::Relaxed));
        Self {
            seen: vec![false; end - begin],
            reached: 0,
        }
    }

    /// Whether the library was compiled with coverage.
    pub fn is_measured(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Returns the number of reached edges and the number of all edges.
    pub fn reached(&self) -> (usize, usize) {
        (self.reached, self.seen.len())
    }

    /// Reads the counters and returns the number of edges that were reached for the first time.
    pub fn take(&mut self) -> usize {
        let before = self.reached;
        let begin = COUNTERS[0].load(Ordering::Relaxed) as *const u8;
        for (at, seen) in self.seen.iter_mut().enumerate() {
            if *seen {
                continue;
            }
            #[expect(unsafe_code, reason = "the counters are memory of the program")]
            // SAFETY: `seen` has as many elements as there are counters, and the counters live as long as the process. A
            // counter that is incremented concurrently is read before or after the increment.
            let count = unsafe { begin.add(at).read_volatile() };
            if count > 0 {
                *seen = true;
                self.reached += 1;
            }
        }
        self.reached - before
    }

    /// Writes a line per edge: its address in the executable file, and 1 if it was reached or 0 if not.
    pub fn write(&self, path: &Path) {
        let [begin, end] = PLACES.each_ref().map(|at| at.load(Ordering::Relaxed));
        let begin = begin as *const [usize; 2];
        let count = (end - begin as usize) / size_of::<[usize; 2]>();
        let mut lines = String::new();
        for (at, seen) in self.seen.iter().enumerate().take(count) {
            #[expect(unsafe_code, reason = "the places are memory of the program")]
            // SAFETY: the table has `count` pairs, and nothing changes them.
            let [address, _] = unsafe { begin.add(at).read() };
            // The address is zero if the linker removed the function.
            let within = address.saturating_sub(base());
            let _ = writeln!(lines, "{within:#x} {}", u8::from(*seen));
        }
        std::fs::write(path, lines).unwrap();
    }
}

/// Returns the address at which the program is loaded.
fn base() -> usize {
    static BASE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *BASE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let first = maps.lines().find(|line| line.ends_with(program)).unwrap();
        let (begin, _) = first.split_once('-').unwrap();
        usize::from_str_radix(begin, 16).unwrap()
    })
}
