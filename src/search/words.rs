//! Words for BM25: how a text becomes tokens, and tokens a sparse vector.
//!
//! A token is a dimension by its hash, so there is no vocabulary to keep. The weight of a word in a text is BM25's
//! (Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009), with k₁ = 1.2 and b = 0.75,
//! but for the inverse document frequency: that depends on who asks, and is the index's to apply. For the same reason the
//! average length is a constant of the descriptions' form, not an average over the assets of all organisations.

use std::collections::BTreeMap;

use qdrant_rust_stemmers::{Algorithm, Stemmer};
use twox_hash::XxHash64;

use super::index::Sparse;

/// Changes when the same text would give other tokens or weights.
pub(super) const VERSION: u32 = 1;

const K1: f64 = 1.2;
const B: f64 = 0.75;
/// About how many tokens a description has.
const AVERAGE_LENGTH: f64 = 40.0;

/// Words that tell nothing. Short: what is in every description is worth little by its frequency anyway.
const STOP_WORDS: [&str; 44] = [
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "been", "by", "can", "did", "do",
    "does", "find", "for", "from", "has", "have", "how", "i", "in", "is", "it", "its", "me", "my",
    "of", "on", "or", "our", "show", "that", "the", "their", "there", "this", "to", "was", "we",
    "where", "which", "with",
];

/// The vector of a text that is to be found.
pub(super) fn of_text(text: &str) -> Sparse {
    let tokens = tokens(text);
    let length = tokens.len() as f64;
    let norm = K1 * (1.0 - B + B * length / AVERAGE_LENGTH);
    sparse(&tokens, |count| count * (K1 + 1.0) / (count + norm))
}

/// The vector of a text that is looked for: how often each word is there.
pub(super) fn of_query(text: &str) -> Sparse {
    sparse(&tokens(text), |count| count)
}

fn sparse(tokens: &[String], weight: impl Fn(f64) -> f64) -> Sparse {
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for token in tokens {
        *counts.entry(dimension(token)).or_default() += 1.0;
    }
    Sparse {
        dimensions: counts.keys().copied().collect(),
        weights: counts.values().map(|count| weight(*count) as f32).collect(),
    }
}

/// Of some thousand words, hardly two share one of the four billion dimensions.
fn dimension(token: &str) -> u32 {
    XxHash64::oneshot(0, token.as_bytes()) as u32
}

/// The tokens of a text, in its order: a tag (`TT-101`) or a unit (`m³/h`) as a whole and in its parts, words without
/// their endings, and nothing of what tells nothing.
fn tokens(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let text: String = text.chars().flat_map(folded).collect();
    let mut tokens = Vec::new();
    for whole in text.split(|character: char| !is_inside(character)) {
        let whole = whole.trim_matches(is_joint);
        if whole.is_empty() {
            continue;
        }
        let parts: Vec<&str> = whole
            .split(is_joint)
            .filter(|part| !part.is_empty())
            .collect();
        // A number is one, with its decimals.
        if parts.len() > 1 && whole.parse::<f64>().is_ok() {
            tokens.push(whole.to_owned());
            continue;
        }
        if parts.len() > 1 {
            tokens.push(whole.to_owned());
        }
        for part in parts {
            if !STOP_WORDS.contains(&part) {
                tokens.push(stemmer.stem(part).into_owned());
            }
        }
    }
    tokens
}

/// A character as if it were written on a plain keyboard, in lower case.
fn folded(character: char) -> impl Iterator<Item = char> {
    let plain = match character {
        '²' => '2',
        '³' => '3',
        '℃' => 'c',
        'µ' | 'μ' => 'u',
        '–' | '—' | '‑' | '−' => '-',
        '·' => '.',
        other => other,
    };
    plain.to_lowercase()
}

/// Whether a character may be in a word.
fn is_inside(character: char) -> bool {
    character.is_alphanumeric() || is_joint(character) || matches!(character, '°' | '%')
}

/// Whether a character joins parts of a word.
fn is_joint(character: char) -> bool {
    matches!(character, '-' | '/' | '.' | '_' | '\'' | '’')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_units_and_numbers_stay_whole_and_words_lose_their_endings() {
        assert_eq!(
            tokens("TT-101 measures the temperatures"),
            ["tt-101", "tt", "101", "measur", "temperatur"]
        );
        assert_eq!(
            tokens("12.5 m³/h, in °C (50 %)"),
            ["12.5", "m3/h", "m3", "h", "°c", "50", "%"]
        );
        assert_eq!(tokens("-- / ... ' the"), Vec::<String>::new());
        assert_eq!(tokens("R‑101's"), ["r-101's", "r", "101", "s"]);
    }

    #[test]
    fn a_weight_is_what_the_formula_says() {
        let vector = of_text("pump pump seal");
        let norm = 1.2 * (0.25 + 0.75 * 3.0 / AVERAGE_LENGTH);
        let (pump, seal) = (2.0 * 2.2 / (2.0 + norm), 2.2 / (1.0 + norm));
        let mut expected = [
            (dimension("pump"), pump as f32),
            (dimension("seal"), seal as f32),
        ];
        expected.sort_by_key(|(dimension, _)| *dimension);
        let found: Vec<_> = vector.dimensions.into_iter().zip(vector.weights).collect();
        assert_eq!(found, expected);
        assert_eq!(of_query("pumps pump").weights, [2.0]);
    }
}
