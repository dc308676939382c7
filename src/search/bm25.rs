//! BM25: tokenises a text and computes its sparse vector.
//!
//! The dimension of a token is its hash, so there is no vocabulary to store. The weight of a token in a text is that
//! of BM25 (Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009) with k₁ = 1.2 and
//! b = 0.75, but without the inverse document frequency. That depends on the user's grants, so the index applies it.
//! For the same reason the average length is a constant of the description format, not an average over the assets of
//! all organisations.

use std::collections::BTreeMap;

use qdrant_rust_stemmers::{Algorithm, Stemmer};
use twox_hash::XxHash64;

use super::index::WordVector;

/// The version of the tokens. It changes when the same text would give other tokens or weights.
pub(super) const VERSION: u32 = 1;

const K1: f64 = 1.2;
const B: f64 = 0.75;
/// The approximate number of tokens of a description.
const AVERAGE_LENGTH: f64 = 40.0;

/// Words without information. The list is short: inverse document frequency already gives a low weight to words that
/// occur in every description.
const STOP_WORDS: [&str; 44] = [
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "been", "by", "can", "did", "do",
    "does", "find", "for", "from", "has", "have", "how", "i", "in", "is", "it", "its", "me", "my",
    "of", "on", "or", "our", "show", "that", "the", "their", "there", "this", "to", "was", "we",
    "where", "which", "with",
];

/// Returns the sparse vector of an indexed text.
pub(super) fn text_vector(text: &str) -> WordVector {
    let tokens = tokens(text);
    let length = tokens.len() as f64;
    let norm = K1 * (1.0 - B + B * length / AVERAGE_LENGTH);
    sparse(&tokens, |count| count * (K1 + 1.0) / (count + norm))
}

/// Returns the sparse vector of a query: the number of occurrences of each token.
pub(super) fn query_vector(text: &str) -> WordVector {
    sparse(&tokens(text), |count| count)
}

fn sparse(tokens: &[String], weight: impl Fn(f64) -> f64) -> WordVector {
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for token in tokens {
        *counts.entry(dimension(token)).or_default() += 1.0;
    }
    WordVector {
        dimensions: counts.keys().copied().collect(),
        weights: counts.values().map(|count| weight(*count) as f32).collect(),
    }
}

/// Returns the dimension of a token. Among a few thousand tokens, collisions in four billion dimensions are unlikely.
fn dimension(token: &str) -> u32 {
    XxHash64::oneshot(0, token.as_bytes()) as u32
}

/// Returns the tokens of a text in order. A tag (`TT-101`) or a unit (`m³/h`) gives the whole and its parts. Words
/// are stemmed, and stop words are omitted.
fn tokens(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let text: String = text.chars().flat_map(fold_character).collect();
    let mut tokens = Vec::new();
    for whole in text.split(|character: char| !is_token_character(character)) {
        let whole = whole.trim_matches(is_joint);
        if whole.is_empty() {
            continue;
        }
        let parts: Vec<&str> = whole
            .split(is_joint)
            .filter(|part| !part.is_empty())
            .collect();
        // A number with decimals is a single token.
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

/// Normalises a character to lower case and to the characters of a plain keyboard.
fn fold_character(character: char) -> impl Iterator<Item = char> {
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

/// Whether a character can be part of a word.
fn is_token_character(character: char) -> bool {
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
    fn tokens_keep_tags_units_and_numbers_whole_and_stem_words() {
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
    fn text_vector_weights_match_bm25_formula() {
        let vector = text_vector("pump pump seal");
        let norm = 1.2 * (0.25 + 0.75 * 3.0 / AVERAGE_LENGTH);
        let (pump, seal) = (2.0 * 2.2 / (2.0 + norm), 2.2 / (1.0 + norm));
        let mut expected = [
            (dimension("pump"), pump as f32),
            (dimension("seal"), seal as f32),
        ];
        expected.sort_by_key(|(dimension, _)| *dimension);
        let found: Vec<_> = vector.dimensions.into_iter().zip(vector.weights).collect();
        assert_eq!(found, expected);
        assert_eq!(query_vector("pumps pump").weights, [2.0]);
    }
}
