//! How long a search for a regular expression may take.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::RegexBuilder;

/// The maximum length of a pattern in bytes: to read a long one takes a thousand times its memory.
pub(super) const MAX_PATTERN_BYTES: u64 = 16 << 10;
/// Bytes of a compiled pattern for each of its states, about.
const STATE_BYTES: u64 = 32;
/// The sizes that a compiled pattern is tried with; the last is the limit that functions compile with.
const COMPILED_BYTES: [usize; 6] = [1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 10 << 20];
/// Patterns whose sizes are remembered, on each thread.
const MAX_REMEMBERED: usize = 64;

/// The states of a compiled pattern at most: a search takes no more than so many steps for each byte of the text. 1 for a
/// pattern that cannot be compiled, which ends there.
pub(super) fn states(pattern: &str) -> u64 {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, u64>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(states) = known.get(pattern) {
            return *states;
        }
        let states = measure(pattern);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
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
    fn states_of_larger_patterns_are_more() {
        let sizes = ["abc", r"\w+", r"(a|b|cd){2000}"].map(states);
        assert!(sizes.is_sorted_by(|one, other| one < other), "{sizes:?}");
        assert_eq!(["(", r"\w{900}{900}"].map(states), [1, 1]);
    }
}
