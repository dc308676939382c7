//! Errors of queries, and the position of an error in the query's text.

use datafusion::common::DataFusionError;

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
            error => Self::Sql(Box::new(error)),
        }
    }
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
