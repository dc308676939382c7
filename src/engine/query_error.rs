//! Errors of queries, and the position of an error in the query's text.

use std::borrow::Cow;

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::schema_names::ACCOUNT;
use super::statement_limits::{
    MAX_GROUPING_SETS, MAX_OPERATORS, MAX_PARAMETERS, MAX_SQL_BYTES, MAX_TABLES,
};
use crate::catalog::CatalogError;
use crate::lake::delta::error::TableError;
use crate::lake::records::runs::RunsError;

/// The error of a query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The published versions cannot be determined.
    #[error("cannot find the published tables")]
    Runs(#[from] RunsError),
    /// A published table cannot be opened.
    #[error("cannot open a published table")]
    Table(#[from] TableError),
    /// The text is not exactly one read-only statement.
    #[error(
        "only one SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE is allowed here, not {found}: plantlake's tables are written by its jobs only"
    )]
    NotReadOnly {
        /// The beginning of the statement, or the number of statements.
        found: String,
    },
    /// `EXPLAIN` with options that show more than the plan.
    #[error("only plain EXPLAIN is allowed here, without ANALYZE, VERBOSE or FORMAT")]
    UnsupportedExplain,
    /// `SET` of an option that sessions do not have.
    #[error(
        "{found} is not allowed here; a session has the options TIME ZONE, SCHEMA and ZONELESS_TIMESTAMPS (SET TIME ZONE 'Europe/Berlin', SET schema = 'public', SET zoneless_timestamps = true)"
    )]
    NotSettable {
        /// The beginning of the statement.
        found: String,
    },
    /// The text is longer than [`MAX_SQL_BYTES`](super::statement_limits::MAX_SQL_BYTES).
    #[error(
        "the statement is {bytes} bytes long, more than {MAX_SQL_BYTES}; send values as parameters"
    )]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The statement has more operators than [`MAX_OPERATORS`](super::statement_limits::MAX_OPERATORS), so its expressions may be
    /// nested too deep.
    #[error(
        "the statement has {operators} operators and keywords, more than {MAX_OPERATORS}; compare with many values by `IN (…)`"
    )]
    TooComplex {
        /// The number of operators and keywords.
        operators: usize,
    },
    /// The statement names more tables than can be planned in reasonable time.
    #[error(
        "the statement names {count} tables, more than {MAX_TABLES} (the tables of a common table expression count at each reference to it); refer to each once"
    )]
    TooManyTables {
        /// The number of tables.
        count: usize,
    },
    /// A `GROUP BY` has too many grouping sets, such as `CUBE` of many columns.
    #[error(
        "the statement groups by {sets} grouping sets, more than {MAX_GROUPING_SETS}; list the required ones with GROUPING SETS"
    )]
    TooManyGroupingSets {
        /// The number of grouping sets.
        sets: usize,
    },
    /// The parser used up its budget of attempts.
    #[error(
        "cannot parse the statement: it is nested too deeply or is ambiguous, perhaps because of a syntax error in a nested expression; reduce the nesting"
    )]
    TooDeeplyNested,
    /// The statement mixes `?` and `$1` parameters.
    #[error("the statement has parameters of both forms, ? and $1; use one of them")]
    MixedParameters,
    /// A parameter's number, or how many there are, is over the limit.
    #[error(
        "the statement has parameter {number}; the limit is {MAX_PARAMETERS} parameters, numbered from $1"
    )]
    TooManyParameters {
        /// The number of the parameter as written.
        number: String,
    },
    /// The statement has a clause, an operator or a function that is not supported.
    #[error("{what} is not supported; {remedy}")]
    Unsupported {
        /// The clause, operator or function, as it is written in SQL.
        what: Cow<'static, str>,
        /// The advice to the caller, such as the clause to use instead.
        remedy: Cow<'static, str>,
    },
    /// A window function names a window that its `SELECT` does not define.
    #[error("there is no window {name}; define it at the end of the SELECT: WINDOW {name} AS (…)")]
    UnknownWindow {
        /// The name as written.
        name: String,
    },
    /// The table does not exist, or the session does not see it.
    #[error("there is no table {name}{}", suggestion(.name, .nearest.as_deref()))]
    UnknownTable {
        /// The name as written.
        name: String,
        /// The most similar name of a table or table function.
        nearest: Option<String>,
    },
    /// The query needs the catalog, which is missing or invalid.
    #[error(transparent)]
    Catalog(Box<CatalogError>),
    /// The folder for spill files cannot be created.
    #[error("cannot recreate the spill folder {}", folder.display())]
    Spill {
        /// The folder.
        folder: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The threads for queries cannot be started.
    #[error("cannot start the query threads")]
    Threads(#[source] std::io::Error),
    /// The SQL is invalid, or its execution failed.
    #[error("cannot run the query")]
    Sql(#[source] Box<DataFusionError>),
}

/// Returns the end of the message: a name to use instead of `name`, or where tables are listed.
fn suggestion(name: &str, nearest: Option<&str>) -> String {
    match name.split_once('.') {
        Some((schema, _)) if schema.eq_ignore_ascii_case(ACCOUNT) => {
            "; the tables of `account` exist on servers only, and most are visible to organisation admins only".to_owned()
        }
        _ => match nearest {
            Some(nearest) => format!("; did you mean {nearest}?"),
            None => "; SHOW TABLES lists all tables".to_owned(),
        },
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(error) => match error.downcast() {
                Ok(error) => Self::Catalog(error),
                Err(error) => Self::Sql(Box::new(DataFusionError::External(error))),
            },
            error => Self::Sql(Box::new(legible(error))),
        }
    }
}

/// Returns the error without the syntax tree that the planner prints for parts that it does not support.
fn legible(error: DataFusionError) -> DataFusionError {
    let text = match error.find_root() {
        DataFusionError::NotImplemented(text) | DataFusionError::Plan(text) => {
            without_syntax_tree(text)
        }
        _ => None,
    };
    text.map_or(error, DataFusionError::NotImplemented)
}

/// Returns the text before the syntax tree that it contains; `None` if it contains none.
fn without_syntax_tree(text: &str) -> Option<String> {
    if text.starts_with("Physical plan does not support logical expression") {
        let function = match text.contains("WindowFunction") {
            true => "window functions",
            false => "aggregates",
        };
        return Some(format!(
            "{function} are not supported in WHERE, HAVING or ON as written; compute them in a sub-query of FROM, and compare their \
             columns"
        ));
    }
    let has_tree = ["Span(Location(", "Literal(", "Ident {"]
        .iter()
        .any(|part| text.contains(part));
    let end = text.find(['{', '(', '[']).filter(|_| has_tree)?;
    let (before, _) = text.get(..end)?.rsplit_once([':', '\''])?;
    let before = before.trim_end_matches([':', '\'', ' ', ',']);
    Some(match before.contains("ast node") {
        true => "an expression of this form is not supported in this place".to_owned(),
        false => format!("{before}: not supported as written"),
    })
}

impl QueryError {
    /// Returns the line of `sql` that has the error, with a mark below the position; `None` if the position is unknown.
    pub fn excerpt(&self, sql: &str) -> Option<String> {
        let (line, column) = match self {
            Self::Sql(error) if is_unexpected_end(error) => {
                let line = sql.trim_end().lines().count().max(1);
                let last = sql.trim_end().lines().last().unwrap_or_default();
                (line, last.chars().count() + 1)
            }
            Self::Sql(error) => position(error)?,
            Self::UnknownTable { name, .. } => {
                let at = sql.find(name.as_str())?;
                let before = sql.get(..at)?;
                let start = before.rfind('\n').map_or(0, |end| end + 1);
                let line = before.matches('\n').count() + 1;
                (line, sql.get(start..at)?.chars().count() + 1)
            }
            Self::Unsupported { what, .. } => position_of_words(sql, what)?,
            _ => return None,
        };
        let text = sql.lines().nth(line.checked_sub(1)?)?;
        // A long line is cut around the position.
        let skipped = column.saturating_sub(60);
        let shown: String = text.chars().skip(skipped).take(100).collect();
        let mark = " ".repeat((column - 1).saturating_sub(skipped));
        Some(format!(
            "line {line}: {shown}\n{}{mark}^",
            " ".repeat(format!("line {line}: ").len())
        ))
    }
}

/// Returns the line and column of the words that `what` begins with, or of the function that it names, if the text has all
/// of them in this order.
fn position_of_words(sql: &str, what: &str) -> Option<(usize, usize)> {
    let words: Vec<&str> = match what.strip_prefix("the function ") {
        Some(name) => vec![name],
        None => {
            let is_keyword = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            what.split(' ').take_while(is_keyword).collect()
        }
    };
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
    let tokens = tokens
        .ok()?
        .into_iter()
        .filter_map(|token| match token.token {
            Token::Word(word) if word.quote_style.is_none() => Some((word.value, token.span.start)),
            _ => None,
        });
    let tokens: Vec<_> = tokens.collect();
    let found = tokens.windows(words.len().max(1)).find(|window| {
        let pairs = window.iter().zip(&words);
        !words.is_empty()
            && pairs
                .into_iter()
                .all(|((found, _), word)| found.eq_ignore_ascii_case(word))
    });
    let (_, start) = found?.first()?;
    to_position(start.line, start.column)
}

/// Whether the parser reached the end of the text too early.
fn is_unexpected_end(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::SQL(..))
        && error.to_string().contains("found: EOF")
}

/// Returns the line and column of an error, counted from 1.
fn position(error: &DataFusionError) -> Option<(usize, usize)> {
    if let Some(span) = error.diagnostic().and_then(|diagnostic| diagnostic.span) {
        return to_position(span.start.line, span.start.column);
    }
    // The parser states the position in its message only: `… at Line: 1, Column: 8`.
    let text = error.to_string();
    let (_, rest) = text.rsplit_once(" at Line: ")?;
    let (line, column) = rest.split_once(", Column: ")?;
    let digits = column.find(|c: char| !c.is_ascii_digit());
    let column = column.get(..digits.unwrap_or(column.len()))?;
    to_position(line.parse().ok()?, column.parse().ok()?)
}

fn to_position(line: u64, column: u64) -> Option<(usize, usize)> {
    let place = (usize::try_from(line).ok()?, usize::try_from(column).ok()?);
    (place.0 > 0 && place.1 > 0).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_does_not_print_a_syntax_tree() {
        for (text, expected) in [
            (
                "Unsupported ast node in sqltorel: RLike { negated: false, expr: Value(ValueWithSpan { span: Span(Location(1,8)..Location(1,11)) }) }",
                Some("an expression of this form is not supported in this place"),
            ),
            (
                "Unsupported interval argument. Expected string literal or number, got: Identifier(Ident { value: \"n\" })",
                Some(
                    "Unsupported interval argument. Expected string literal or number, got: not supported as written",
                ),
            ),
            (
                "Unsupported Value 'NationalStringLiteral(\"x\")'",
                Some("Unsupported Value: not supported as written"),
            ),
            ("Invalid function 'a(b'", None),
            ("Column (x) must be in GROUP BY: [y]", None),
        ] {
            assert_eq!(without_syntax_tree(text).as_deref(), expected, "{text}");
        }
    }
}
