//! The similarity of spellings, which finds the name that a misspelled one was meant to be.

/// The minimum similarity of a misspelled name and its suggestion, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.5;

/// Returns the candidate with the spelling most similar to `name`, if any is similar enough.
///
/// `separator` separates a group from its settings, so that a missing group (`memory`) gets a suggestion too.
pub(super) fn nearest(
    name: &str,
    separator: char,
    candidates: impl Iterator<Item = String>,
) -> Option<String> {
    let last = |text: &str| text.rsplit(separator).next().unwrap_or_default().to_owned();
    let similarity = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, candidate);
        let end = strsim::normalized_damerau_levenshtein(&last(name), &last(candidate));
        // A match of the last part alone counts slightly less than one of the whole.
        whole.max(0.9 * end)
    };
    let similarities = candidates.map(|candidate| (similarity(&candidate), candidate));
    similarities
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness >= MIN_SIMILARITY)
        .map(|(_, candidate)| candidate)
}
