//! Which edges of the server's control flow were gone through: of the library as `tests/fuzz/with-coverage` compiles it. In
//! a plain `cargo test` there are none, and nothing here is called.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the counters begin and end, a byte each; zero where there are none.
static COUNTERS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
/// Where their places in the code begin and end: two words each, of which the first is the address.
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

/// What was gone through so far.
pub struct Coverage {
    seen: Vec<bool>,
    reached: usize,
}

impl Coverage {
    /// Nothing yet.
    pub fn new() -> Self {
        let [begin, end] = COUNTERS.each_ref().map(|at| at.load(Ordering::Relaxed));
        Self {
            seen: vec![false; end - begin],
            reached: 0,
        }
    }

    /// Whether edges are counted.
    pub fn is_measured(&self) -> bool {
        !self.seen.is_empty()
    }

    /// How many edges were reached, and how many there are.
    pub fn reached(&self) -> (usize, usize) {
        (self.reached, self.seen.len())
    }

    /// Takes down what was gone through; how many edges for the first time.
    pub fn take(&mut self) -> usize {
        let before = self.reached;
        let begin = COUNTERS[0].load(Ordering::Relaxed) as *const u8;
        for (at, seen) in self.seen.iter_mut().enumerate() {
            if *seen {
                continue;
            }
            #[expect(unsafe_code, reason = "the counters are memory of the program")]
            // SAFETY: as many bytes as `seen` has places lie there as long as the process runs; one that is counted up
            // meanwhile is read before or after.
            let count = unsafe { begin.add(at).read_volatile() };
            if count > 0 {
                *seen = true;
                self.reached += 1;
            }
        }
        self.reached - before
    }

    /// Writes a line for each edge: its address in the program's file, and whether it was reached.
    pub fn write(&self, path: &Path) {
        let [begin, end] = PLACES.each_ref().map(|at| at.load(Ordering::Relaxed));
        let begin = begin as *const [usize; 2];
        let count = (end - begin as usize) / size_of::<[usize; 2]>();
        let mut lines = String::new();
        for (at, seen) in self.seen.iter().enumerate().take(count) {
            #[expect(unsafe_code, reason = "the places are memory of the program")]
            // SAFETY: `count` pairs lie there, and nothing changes them.
            let [address, _] = unsafe { begin.add(at).read() };
            // The linker may have left out what is never called.
            let within = address.saturating_sub(base());
            let _ = writeln!(lines, "{within:#x} {}", u8::from(*seen));
        }
        std::fs::write(path, lines).unwrap();
    }
}

/// Where the program was loaded.
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
