//! What statements have in common that differ in their literals only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
use ecow::EcoString;
use foldhash::fast::RandomState;

use super::sql::LONGEST_SQL;
use crate::model::hex;

/// See [`Fingerprints::of`].
fn fingerprint(sql: &str) -> String {
    let text = (sql.len() <= LONGEST_SQL)
        .then(|| normalised(sql))
        .flatten();
    let text = text.as_deref().unwrap_or(sql);
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Statements whose fingerprints are remembered, and how long one is at most.
const MOST: usize = 1_024;
const LONGEST: usize = 4 << 10;

/// Fingerprints of statements that were seen lately. Each is asked for with every call that is about it.
#[derive(Debug, Default)]
pub struct Fingerprints {
    known: Mutex<Known>,
}

type Known = HashMap<String, EcoString, RandomState>;

impl Fingerprints {
    /// SHA-256, in hexadecimal, of a statement without its literals, comments and the way that it is laid out: names in lower
    /// case where they are not quoted, a `?` for each literal and parameter, and for a list of them. Of a text that is no
    /// SQL, or too long to be planned, it is that of the text.
    pub fn of(&self, sql: &str) -> EcoString {
        if let Some(known) = self.locked().get(sql) {
            return known.clone();
        }
        let found: EcoString = fingerprint(sql).into();
        if sql.len() <= LONGEST {
            let mut known = self.locked();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(sql.to_owned(), found.clone());
        }
        found
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn normalised(sql: &str) -> Option<String> {
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
        // A list of literals is as one, however long.
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
    fn literals_layout_and_case_make_no_difference_and_names_do() {
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
