//! Fingerprints that are equal for statements that differ in their literals only.

use aws_lc_rs::digest::{SHA256, digest};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
use ecow::EcoString;
use foldhash::fast::RandomState;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::engine::statement_limits::MAX_SQL_BYTES;
use crate::model::hex;

/// See [`FingerprintCache::get`].
fn fingerprint(sql: &str) -> String {
    let text = (sql.len() <= MAX_SQL_BYTES)
        .then(|| normalise(sql))
        .flatten();
    let text = text.as_deref().unwrap_or(sql);
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// The approximate number of statements whose fingerprints are cached, and the maximum length in bytes of each.
const MAX_CACHED: usize = 1_024;
const MAX_CACHED_SQL_BYTES: usize = 4 << 10;

/// A cache of fingerprints of recent statements. Every call for a statement asks for its fingerprint.
#[derive(Debug)]
pub struct FingerprintCache(Cache<String, EcoString, UnitWeighter, RandomState>);

impl Default for FingerprintCache {
    fn default() -> Self {
        let (hashes, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
        Self(Cache::with(
            MAX_CACHED,
            MAX_CACHED as u64,
            UnitWeighter,
            hashes,
            lifecycle,
        ))
    }
}

impl FingerprintCache {
    /// Returns the SHA-256, in hexadecimal, of the normalised statement: without literals, comments and layout,
    /// unquoted names in lower case, a `?` for each literal, parameter or list of them. For text that is not SQL, or
    /// too long to be planned, it is the hash of the text itself.
    pub fn get(&self, sql: &str) -> EcoString {
        if let Some(known) = self.0.get(sql) {
            return known;
        }
        let found: EcoString = fingerprint(sql).into();
        if sql.len() <= MAX_CACHED_SQL_BYTES {
            self.0.insert(sql.to_owned(), found.clone());
        }
        found
    }
}

fn normalise(sql: &str) -> Option<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().ok()?;
    let mut parts: Vec<String> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let part = match token {
            Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab)
            | Token::Whitespace(_)
            | Token::SemiColon => continue,
            Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_) => "?".to_owned(),
            other => other.to_string(),
        };
        // A list of literals is one `?`, whatever its length.
        let continues_list = part == "?"
            && matches!(parts.as_slice(), [.., literal, comma] if literal == "?" && comma == ",");
        match continues_list {
            true => drop(parts.pop()),
            false => parts.push(part),
        }
    }
    Some(parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_ignores_literals_layout_and_case_but_not_names() {
        let same = [
            "SELECT value FROM data_h WHERE asset_id IN ('a', 'b') AND value > 1.5",
            "select value\nfrom DATA_H -- what\nwhere asset_id in ('x','y','z') and value > 2;",
            "SELECT value FROM data_h WHERE asset_id IN (?) AND value > $1",
        ];
        for sql in same {
            assert_eq!(fingerprint(sql), fingerprint(same[0]), "{sql}");
        }
        for other in [
            "SELECT value FROM data_d WHERE asset_id IN ('a') AND value > 1",
            "SELECT \"Value\"",
            "SELECT 'a",
        ] {
            assert_ne!(fingerprint(other), fingerprint(same[0]));
        }
        assert_eq!(fingerprint("").len(), 64);
    }
}
