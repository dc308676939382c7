//! `LIKE` patterns of metadata calls: `%` matches any text, `_` any character, and `\` escapes the next character.
//!
//! Clients send arbitrary patterns, including whole queries: pandas checks whether a table has the text of the query as its
//! name. Therefore matching goes back only to the last `%`, so that no pattern is slow.

/// Whether `name` matches `pattern`. Without a pattern, every name matches.
pub(in crate::server) fn is_like(name: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else {
        return true;
    };
    if needs_more_chars_than(pattern, name) {
        return false;
    }
    let name: Vec<char> = name.chars().collect();
    let pattern = tokens(pattern);
    let (mut at, mut part) = (0, 0);
    // The last `%` in the pattern, and the end of the text that it matches so far.
    let mut retry: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(part) {
            Some(Token::AnyText) => {
                retry = Some((part, at));
                part += 1;
            }
            Some(token) if token.matches(name.get(at)) => {
                at += 1;
                part += 1;
            }
            _ => match retry {
                Some((any, end)) => {
                    retry = Some((any, end + 1));
                    at = end + 1;
                    part = any + 1;
                }
                None => return false,
            },
        }
    }
    let rest = pattern.get(part..).unwrap_or_default();
    rest.iter().all(|token| *token == Token::AnyText)
}

/// Whether a pattern certainly requires more characters than the name has, so that it need not be parsed: clients send
/// megabytes.
fn needs_more_chars_than(pattern: &str, name: &str) -> bool {
    let others = pattern.chars().filter(|character| *character != '%');
    // Each literal character may have a `\` before it.
    let enough = 2 * name.chars().count() + 2;
    others.take(enough).count() == enough
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    AnyText,
    AnyCharacter,
    Literal(char),
}

impl Token {
    fn matches(self, character: Option<&char>) -> bool {
        match self {
            Self::AnyText => false,
            Self::AnyCharacter => character.is_some(),
            Self::Literal(this) => character == Some(&this),
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            // Consecutive `%` are equivalent to one.
            '%' if tokens.last() == Some(&Token::AnyText) => continue,
            '%' => Token::AnyText,
            '_' => Token::AnyCharacter,
            '\\' => Token::Literal(characters.next().unwrap_or('\\')),
            this => Token::Literal(this),
        });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use arrow::array::{Scalar, StringArray};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_like_matches_sql_patterns() {
        for (name, pattern, expected) in [
            ("data_min", "data\\_%", true),
            ("dataXmin", "data\\_%", false),
            ("data_min", "data__min", false),
            ("", "%", true),
            ("", "_", false),
            ("a%b", "a\\%b", true),
            ("üx", "_x", true),
        ] {
            assert_eq!(is_like(name, Some(pattern)), expected, "{name} {pattern}");
        }
        assert!(is_like("anything", None));
        let slow = "%a".repeat(50_000);
        assert!(!is_like(&"a".repeat(40_000), Some(&slow)));
    }

    proptest! {
        #[test]
        fn is_like_agrees_with_arrow(name in "[ab_%]{0,8}", pattern in "[ab_%]{0,8}") {
            let names = StringArray::from(vec![name.as_str()]);
            let patterns = Scalar::new(StringArray::from(vec![pattern.as_str()]));
            let expected = arrow::compute::like(&names, &patterns).unwrap().value(0);
            prop_assert_eq!(is_like(&name, Some(&pattern)), expected);
        }
    }
}
