//! Checks of the tokens of a statement before it is parsed: its nesting and its parameters.

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::engine::query_error::QueryError;
use crate::engine::statement_limits::{MAX_OPERATORS, MAX_PARAMETERS};

/// The maximum depth of brackets, of which the parser takes fewer in expressions.
const MAX_BRACKET_DEPTH: usize = 1_000;
/// The maximum number of characters of a parameter that an error quotes.
const MAX_QUOTED_CHARS: usize = 24;

/// Returns the tokens of a text, with their positions.
pub(in crate::engine) fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, QueryError> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
    Ok(tokens.map_err(|error| DataFusionError::SQL(Box::new(error.into()), None))?)
}

/// Refuses statements that nest deeper than parsers and visitors descend within a thread's stack.
pub(in crate::engine) fn check_nesting(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let operators = tokens.iter().filter(|token| may_nest(&token.token));
    let operators = operators.count();
    let operators = operators + nested_intervals(tokens);
    if operators > MAX_OPERATORS {
        return Err(QueryError::TooComplex { operators });
    }
    if bracket_depth(tokens) > MAX_BRACKET_DEPTH {
        return Err(QueryError::TooDeeplyNested);
    }
    Ok(())
}

/// Returns the number of `INTERVAL`s that are not followed by a literal. Each nests the next expression one level deeper
/// without parentheses, and the parser counts no level for it.
fn nested_intervals(tokens: &[TokenWithSpan]) -> usize {
    let is_interval =
        |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::INTERVAL);
    let mut words = tokens
        .iter()
        .map(|token| &token.token)
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .peekable();
    let mut nested = 0;
    while let Some(token) = words.next() {
        let is_followed_by_word = matches!(words.peek(), Some(Token::Word(_)));
        nested += usize::from(is_interval(token) && is_followed_by_word);
    }
    nested
}

/// Returns the maximum depth of brackets of any kind. Not all that may stand in brackets counts for the parser's limit of
/// recursion: the patterns of `MATCH_RECOGNIZE` do not.
fn bracket_depth(tokens: &[TokenWithSpan]) -> usize {
    let (mut depth, mut greatest) = (0_usize, 0);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => {}
        }
        greatest = greatest.max(depth);
    }
    greatest
}

/// Whether the token may nest an expression or a query one level deeper without parentheses. The tokens of lists do
/// not: values, names and commas.
fn may_nest(token: &Token) -> bool {
    match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::NoKeyword
                | Keyword::NULL
                | Keyword::TRUE
                | Keyword::FALSE
                | Keyword::DATE
                | Keyword::TIMESTAMP
                | Keyword::INTERVAL
                | Keyword::VALUES
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::Placeholder(_)
        | Token::EOF => false,
        _ => true,
    }
}

/// Refuses parameters beyond [`MAX_PARAMETERS`]: a prepared statement is described with all parameters up to the
/// largest number.
pub(in crate::engine) fn check_parameters(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let mut questions = 0_usize;
    for token in tokens {
        let Token::Placeholder(name) = &token.token else {
            continue;
        };
        let digits = name.strip_prefix('$').unwrap_or_default();
        let number = if name == "?" {
            questions += 1;
            Some(questions)
        } else if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        } else {
            digits.parse().ok()
        };
        if number.is_none_or(|number| number > MAX_PARAMETERS) {
            let number = match name.as_str() {
                "?" => questions.to_string(),
                name => name.chars().take(MAX_QUOTED_CHARS).collect(),
            };
            return Err(QueryError::TooManyParameters { number });
        }
    }
    Ok(())
}

/// Refuses hexadecimal numbers such as `0x1F`, which the parser takes for the bytes `X'1F'`.
pub(in crate::engine) fn check_numbers(
    sql: &str,
    tokens: &[TokenWithSpan],
) -> Result<(), QueryError> {
    for token in tokens {
        if let Token::HexStringLiteral(digits) = &token.token
            && character_at(sql, token.span.start) == Some('0')
        {
            let digits: String = digits.chars().take(MAX_QUOTED_CHARS).collect();
            let remedy = match u64::from_str_radix(&digits, 16) {
                Ok(number) => format!("write {number}, or X'{digits}' for bytes"),
                Err(_) => format!("write a decimal number, or X'{digits}' for bytes"),
            };
            return Err(QueryError::Unsupported {
                what: format!("0x{digits}").into(),
                remedy: remedy.into(),
            });
        }
    }
    Ok(())
}

/// Returns the character at a position, which counts lines and characters from 1.
fn character_at(sql: &str, at: Location) -> Option<char> {
    let index = |position: u64| usize::try_from(position.checked_sub(1)?).ok();
    let line = sql.split('\n').nth(index(at.line)?)?;
    line.chars().nth(index(at.column)?)
}

/// Returns the positions of the parameters `?`, in order. A `?` in a string or a comment is not a parameter.
///
/// # Errors
/// If the statement also has parameters of the form `$1`.
pub(in crate::engine) fn question_positions(
    tokens: &[TokenWithSpan],
) -> Result<Vec<Location>, QueryError> {
    let is_named =
        |token: &TokenWithSpan| matches!(&token.token, Token::Placeholder(name) if name != "?");
    let questions = tokens
        .iter()
        .filter(|token| matches!(&token.token, Token::Placeholder(name) if name == "?"));
    let questions: Vec<Location> = questions.map(|token| token.span.start).collect();
    match !questions.is_empty() && tokens.iter().any(is_named) {
        true => Err(QueryError::MixedParameters),
        false => Ok(questions),
    }
}
