//! The escapes of JDBC and ODBC in braces. The parser reads `{fn name(…)}`, `{d '…'}`, `{t '…'}` and `{ts '…'}`; the others
//! are ordinary SQL once their braces are gone.

use std::borrow::Cow;
use std::collections::HashMap;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Functions that SQL writes with keywords among their arguments, or without parentheses. The parser reads them only
/// outside of `{fn …}`.
const KEYWORD_FUNCTIONS: [&str; 10] = [
    "cast",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "extract",
    "overlay",
    "position",
    "substring",
    "trim",
];

/// Returns the text with blanks in place of the braces and the names of escapes that the parser does not read. All other
/// characters keep their positions.
pub(super) fn without_escapes<'a>(sql: &'a str, tokens: &[TokenWithSpan]) -> Cow<'a, str> {
    if !sql.contains('{') {
        return Cow::Borrowed(sql);
    }
    let tokens: Vec<&TokenWithSpan> = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .collect();
    let mut replaced = Replacements::default();
    for (at, token) in tokens.iter().enumerate() {
        if token.token == Token::LBrace {
            replaced.add_escape(tokens.get(at..).unwrap_or_default());
        }
    }
    match replaced.0.is_empty() {
        true => Cow::Borrowed(sql),
        false => Cow::Owned(replaced.apply(sql)),
    }
}

/// New characters by line and column, counted from 1.
#[derive(Default)]
struct Replacements(HashMap<(u64, u64), char>);

impl Replacements {
    /// Adds those of the escape that the tokens begin with, if they begin with one.
    fn add_escape(&mut self, tokens: &[&TokenWithSpan]) {
        let [_, name, next, ..] = tokens else {
            return;
        };
        // `{name: value}` is a struct.
        let Some(word) = word(name).filter(|_| next.token != Token::Colon) else {
            return;
        };
        match word.as_str() {
            "d" | "t" | "ts" => self.replace_word(name, &word),
            "oj" => self.remove_braces(tokens, Some(name)),
            "escape" | "limit" => self.remove_braces(tokens, None),
            "fn" => {
                let function = self::word(next).unwrap_or_default();
                if KEYWORD_FUNCTIONS.contains(&function.as_str()) {
                    self.remove_braces(tokens, Some(name));
                }
            }
            _ => {}
        }
    }

    fn remove_braces(&mut self, tokens: &[&TokenWithSpan], name: Option<&TokenWithSpan>) {
        let mut depth = 0_usize;
        let close = tokens.iter().find(|token| {
            match token.token {
                Token::LBrace => depth += 1,
                Token::RBrace => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        });
        let (Some(open), Some(close)) = (tokens.first(), close) else {
            return;
        };
        for brace in [open, close] {
            self.insert(brace.span.start.line, brace.span.start.column, ' ');
        }
        if let Some(name) = name {
            let blanks = " ".repeat(name.token.to_string().len());
            self.replace_word(name, &blanks);
        }
    }

    fn replace_word(&mut self, token: &TokenWithSpan, new: &str) {
        let start = token.span.start;
        for (character, column) in new.chars().zip(start.column..) {
            self.insert(start.line, column, character);
        }
    }

    fn insert(&mut self, line: u64, column: u64, character: char) {
        self.0.insert((line, column), character);
    }

    fn apply(&self, sql: &str) -> String {
        let (mut line, mut column) = (1, 1);
        let replaced = sql.chars().map(|character| {
            let place = (line, column);
            match character {
                '\n' => (line, column) = (line + 1, 1),
                _ => column += 1,
            }
            self.0.get(&place).copied().unwrap_or(character)
        });
        replaced.collect()
    }
}

/// Returns an unquoted word in lower case.
fn word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sql::tokens::tokenize;

    #[test]
    fn escapes_are_removed_without_moving_other_characters() {
        for (sql, expected) in [
            ("SELECT {oj a}", "SELECT     a "),
            ("a LIKE 'ä{oj' {escape '!'}", "a LIKE 'ä{oj'  escape '!' "),
            (
                "{fn EXTRACT(DAY FROM\n{TS '2024'})}",
                "    EXTRACT(DAY FROM\n{ts '2024'}) ",
            ),
            ("{oj {oj a} b}", "        a  b "),
            ("{fn UCASE('{')}", "{fn UCASE('{')}"),
            ("{'oj': 1}", "{'oj': 1}"),
            ("{oj a", "{oj a"),
            ("{D: 1}", "{D: 1}"),
        ] {
            let tokens = tokenize(sql).unwrap();
            assert_eq!(without_escapes(sql, &tokens), expected);
        }
    }
}
