//! Estimates how long a search for a regular expression takes.

use std::cell::RefCell;

use quick_cache::unsync::Cache;
use regex::RegexBuilder;

/// The maximum length of a pattern in bytes: parsing one takes a thousand times its size in memory.
pub(super) const MAX_PATTERN_BYTES: u64 = 16 << 10;
/// The approximate size of a state in a compiled pattern, in bytes.
const STATE_BYTES: u64 = 32;
/// The size limits with which a pattern is compiled, one after the other; the last is the limit that the functions use.
const COMPILED_BYTES: [usize; 6] = [1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 10 << 20];
/// The maximum number of cached sizes of patterns, for each thread.
const MAX_CACHED_PATTERNS: usize = 64;

/// Returns an upper bound of the number of states of a compiled pattern, which bounds the steps of a search for each
/// byte of text. Returns 1 for a pattern that cannot be compiled, because no search follows.
pub(super) fn states(pattern: &str) -> u64 {
    thread_local! {
        static KNOWN: RefCell<Cache<String, u64>> = RefCell::new(Cache::new(MAX_CACHED_PATTERNS));
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(states) = known.get(pattern) {
            return *states;
        }
        let states = measure(pattern);
        known.insert(pattern.to_owned(), states);
        states
    })
}

fn measure(pattern: &str) -> u64 {
    for bytes in COMPILED_BYTES {
        match RegexBuilder::new(pattern).size_limit(bytes).build() {
            Ok(_) => return bytes as u64 / STATE_BYTES,
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(_) => return 1,
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_larger_patterns_increase() {
        let sizes = ["abc", r"\w+", r"(a|b|cd){2000}"].map(states);
        assert!(sizes.is_sorted_by(|one, other| one < other), "{sizes:?}");
        assert_eq!(["(", r"\w{900}{900}"].map(states), [1, 1]);
    }
}
