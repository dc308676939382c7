//! Parsing and checks of one SQL statement before it is planned: it must be read-only, and its parameters are numbered.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{self, Expr, Visit, Visitor, visit_expressions};

use super::grouping_limits::check_grouping_sets;
use super::jdbc_escapes::without_escapes;
use super::outer_using::check_outer_joins;
use super::parse_budget::ParseBudget;
use super::rewrites::rewrite;
use super::simple_statement;
use super::table_limits::check_tables;
use super::time_zones::replace_at_time_zone;
use super::tokens::{check_nesting, check_numbers, check_parameters, question_positions, tokenize};
use super::unsupported::check_supported;
use crate::engine::query_error::QueryError;
use crate::engine::statement_limits::MAX_SQL_BYTES;
use crate::engine::table_functions::table_arguments;
use crate::engine::table_functions::table_arguments::placeholder;

/// The maximum nesting of parentheses and similar constructs that is parsed.
const MAX_PARSE_DEPTH: usize = 100;

/// One statement that changes nothing except perhaps the session.
#[derive(Debug, Clone)]
pub enum Statement {
    /// A statement that returns rows.
    Query(Query),
    /// `EXPLAIN`: returns the plan of the query.
    Explain(Box<Explain>),
    /// `SET`: sets an option of the session.
    Set(SessionOption),
}

/// A statement that returns rows.
#[derive(Debug, Clone)]
pub struct Query {
    /// The text as the client wrote it.
    pub text: String,
    pub(in crate::engine) parsed: Parsed,
}

/// An `EXPLAIN` statement.
#[derive(Debug, Clone)]
pub struct Explain {
    /// The query.
    pub query: Query,
    /// Whether it is a plain `EXPLAIN`, which does not run the query.
    pub is_plain: bool,
    pub(in crate::engine) statement: Parsed,
}

/// An option of a session that SQL may set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionOption {
    /// The time zone of timestamps without one: `SET TIME ZONE`.
    TimeZone(String),
    /// The schema of unqualified table names.
    Schema(String),
    /// Whether clients get timestamps without a time zone, whose values are in UTC.
    ZonelessTimestamps(bool),
}

impl SessionOption {
    /// Returns the option `name` with the value `value`; `None` if sessions have no such option.
    pub fn parse(name: &str, value: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "timezone" | "time_zone" | "datafusion.execution.time_zone" => {
                Some(Self::TimeZone(value.to_owned()))
            }
            "schema" | "search_path" | "datafusion.catalog.default_schema" => {
                Some(Self::Schema(value.to_owned()))
            }
            "zoneless_timestamps" => parse_switch(value).map(Self::ZonelessTimestamps),
            _ => None,
        }
    }
}

/// Returns the value of a switch as Postgres and drivers write it.
fn parse_switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

impl Statement {
    /// Parses one statement.
    ///
    /// # Errors
    /// If the text cannot be parsed, exceeds a limit, or is not read-only.
    pub fn parse(sql: &str) -> Result<Self, QueryError> {
        if sql.len() > MAX_SQL_BYTES {
            return Err(QueryError::TooLong { bytes: sql.len() });
        }
        Self::parse_with_budget(sql, ParseBudget::new)
    }

    /// Parses a statement that is certain to be parsed and planned in little time; returns `None` for others and for
    /// invalid SQL.
    pub fn parse_simple(sql: &str) -> Option<Self> {
        if sql.len() > simple_statement::MAX_BYTES {
            return None;
        }
        let statement = Self::parse_with_budget(sql, ParseBudget::new_strict).ok()?;
        let is_simple = match &statement {
            Self::Query(query) => simple_statement::is_simple(&query.parsed),
            Self::Explain(_) => false,
            Self::Set(_) => true,
        };
        is_simple.then_some(statement)
    }

    fn parse_with_budget(
        sql: &str,
        new_budget: fn(usize) -> ParseBudget,
    ) -> Result<Self, QueryError> {
        // Text from a file may begin with a byte order mark.
        let sql = sql.strip_prefix('\u{feff}').unwrap_or(sql);
        let tokens = tokenize(sql)?;
        check_nesting(&tokens)?;
        check_parameters(&tokens)?;
        check_numbers(sql, &tokens)?;
        let questions = question_positions(&tokens)?;
        // Positions in the syntax tree and in errors are those of the client's text.
        let text = without_escapes(sql, &tokens);
        let budget = new_budget(tokens.len());
        let parsed = DFParserBuilder::new(&*text)
            .with_dialect(&budget)
            .with_recursion_limit(MAX_PARSE_DEPTH)
            .build()?
            .parse_statements();
        if budget.is_exhausted() {
            return Err(QueryError::TooDeeplyNested);
        }
        let mut statements = parsed?;
        let refused = |found: String| Err(QueryError::NotReadOnly { found });
        let mut statement = match (statements.pop_front(), statements.len()) {
            (Some(statement), 0) => statement,
            (None, _) => return refused("an empty text".to_owned()),
            (Some(_), more) => return refused(format!("{} statements", more + 1)),
        };
        check_tables(&statement)?;
        check_grouping_sets(&statement)?;
        if is_query(&statement) {
            check_supported(&statement)?;
            rewrite(&mut statement, &questions)?;
        }
        replace_at_time_zone(&mut statement);
        check_outer_joins(&statement)?;
        let query = |parsed| Query {
            text: sql.to_owned(),
            parsed,
        };
        match statement {
            statement if is_read_only(&statement) => Ok(Self::Query(query(statement))),
            Parsed::Explain(explain) if is_read_only(&explain.statement) => {
                let options = &explain.options;
                Ok(Self::Explain(Box::new(Explain {
                    query: query((*explain.statement).clone()),
                    is_plain: !options.analyze && !options.verbose && options.format.is_none(),
                    statement: Parsed::Explain(explain),
                })))
            }
            Parsed::Statement(statement) => match *statement {
                ast::Statement::Set(set) => Ok(Self::Set(parse_option(&set)?)),
                other => refused(first_words(&other)),
            },
            other => refused(first_words(&other)),
        }
    }
}

impl Query {
    /// Returns the statement with `values` in place of the parameters in arguments of table functions, which are
    /// evaluated during planning; null for parameters without a value.
    pub(in crate::engine) fn with_arguments(
        &self,
        values: &[ScalarValue],
    ) -> Result<Parsed, DataFusionError> {
        let mut parsed = self.parsed.clone();
        table_arguments::bind_values(&mut parsed, values)?;
        Ok(parsed)
    }

    /// Whether an argument of a table function contains a function call, such as `now()`.
    pub fn has_computed_arguments(&self) -> bool {
        table_arguments::has_computed_arguments(&self.parsed)
    }

    /// Returns the types, by parameter number, that plans do not infer: those of LIMIT and OFFSET, and of arguments of
    /// table functions.
    pub fn known_parameter_types(&self) -> BTreeMap<usize, DataType> {
        let mut found = LimitParameters::default();
        if let Parsed::Statement(statement) = &self.parsed {
            let _: ControlFlow<()> = Visit::visit(statement, &mut found);
        }
        let mut types = table_arguments::parameter_types(&self.parsed);
        types.extend(found.0.into_iter().map(|number| (number, DataType::Int64)));
        types
    }

    /// Returns the number of parameters, which is the largest parameter number.
    pub fn parameter_count(&self) -> usize {
        let Parsed::Statement(statement) = &self.parsed else {
            return 0;
        };
        let mut greatest = 0;
        let _: ControlFlow<()> = visit_expressions(&**statement, |expression| {
            greatest = greatest.max(placeholder(expression).unwrap_or(0));
            ControlFlow::Continue(())
        });
        greatest
    }
}

impl Explain {
    /// Returns the statement with `values`, like [`Query::with_arguments`].
    pub(in crate::engine) fn with_arguments(
        mut self,
        values: &[ScalarValue],
    ) -> Result<Parsed, DataFusionError> {
        table_arguments::bind_values(&mut self.statement, values)?;
        Ok(self.statement)
    }
}

/// Collects the parameters of LIMIT and OFFSET.
#[derive(Default)]
struct LimitParameters(BTreeSet<usize>);

impl Visitor for LimitParameters {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let (limit, offset) = match &query.limit_clause {
            Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => {
                (Some(limit), Some(offset))
            }
            None => (None, None),
        };
        let fetched = query
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.quantity.as_ref());
        let counts = limit.into_iter().chain(offset).chain(fetched);
        self.0.extend(counts.filter_map(placeholder));
        ControlFlow::Continue(())
    }
}

/// Whether the statement is read-only, or the `EXPLAIN` of one that is.
fn is_query(statement: &Parsed) -> bool {
    match statement {
        Parsed::Explain(explain) => is_read_only(&explain.statement),
        statement => is_read_only(statement),
    }
}

fn is_read_only(statement: &Parsed) -> bool {
    match statement {
        Parsed::Statement(statement) => match &**statement {
            ast::Statement::Query(query) => selects_only(query),
            ast::Statement::ExplainTable { .. }
            | ast::Statement::ShowTables { .. }
            | ast::Statement::ShowColumns { .. }
            | ast::Statement::ShowVariable { .. }
            | ast::Statement::ShowFunctions { .. } => true,
            _ => false,
        },
        _ => false,
    }
}

/// Whether the query contains neither `SELECT … INTO` nor a data modification such as `INSERT`.
fn selects_only(query: &ast::Query) -> bool {
    let mut with = query.with.iter().flat_map(|with| &with.cte_tables);
    body_selects_only(&query.body) && with.all(|table| selects_only(&table.query))
}

fn body_selects_only(body: &ast::SetExpr) -> bool {
    match body {
        ast::SetExpr::Select(select) => select.into.is_none(),
        ast::SetExpr::Query(query) => selects_only(query),
        ast::SetExpr::SetOperation { left, right, .. } => {
            body_selects_only(left) && body_selects_only(right)
        }
        ast::SetExpr::Values(_) | ast::SetExpr::Table(_) => true,
        _ => false,
    }
}

/// Returns the first words of a statement, to recognise it.
fn first_words(statement: &impl ToString) -> String {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    words.join(" ")
}

fn parse_option(set: &ast::Set) -> Result<SessionOption, QueryError> {
    let unquoted = |value: &Expr| match value {
        Expr::Value(value) => match &value.value {
            ast::Value::Boolean(_) | ast::Value::Number(..) => Some(value.value.to_string()),
            value => value.clone().into_string(),
        },
        Expr::Identifier(name) => Some(name.value.clone()),
        _ => None,
    };
    let option = match set {
        ast::Set::SetTimeZone {
            local: false,
            value,
        } => unquoted(value).map(SessionOption::TimeZone),
        ast::Set::SingleAssignment {
            hivevar: false,
            scope: None | Some(ast::ContextModifier::Session),
            variable,
            values,
        } => match values.as_slice() {
            [value] => unquoted(value)
                .and_then(|value| SessionOption::parse(&variable.to_string(), &value)),
            _ => None,
        },
        _ => None,
    };
    option.ok_or_else(|| QueryError::NotSettable {
        found: first_words(set),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::statement_limits::THREAD_STACK_BYTES;

    #[test]
    fn parser_on_nested_errors_returns_quickly() {
        // The server's threads have stacks of this size.
        let threads = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        threads.spawn(parse_mistakes).unwrap().join().unwrap();
    }

    fn parse_mistakes() {
        for (before, after) in [
            ("CASE WHEN true THEN ", " END"),
            ("CAST(", " AS INT)"),
            ("SUBSTRING(", " FROM 1)"),
            ("EXISTS (SELECT ", ")"),
            ("(SELECT ", ")"),
            ("ARRAY[", "]"),
            ("INTERVAL ", ""),
            ("CEIL(", ")"),
        ] {
            for middle in ["1", "1 1", ")"] {
                for depth in [20, 45, 99, 200] {
                    let (before, after) = (before.repeat(depth), after.repeat(depth));
                    let sql = format!("SELECT {before}{middle}{after}");
                    // The test only requires that parsing returns.
                    let _ = Statement::parse(&sql);
                }
            }
        }
        let tangled = format!("SELECT {}1 1", "CAST(".repeat(45));
        let refused = Statement::parse(&tangled).unwrap_err().to_string();
        assert!(refused.contains("nested too deeply"), "{refused}");
        let long = format!(
            "SELECT 1 IN ({})",
            vec!["(CASE 1 WHEN 1 THEN CAST(-1 AS INT) END)"; 100].join(", ")
        );
        Statement::parse(&long).unwrap();
    }

    #[test]
    fn parser_with_repeated_uncounted_tokens_stays_within_its_stack() {
        let threads = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        threads.spawn(parse_repetitions).unwrap().join().unwrap();
    }

    fn parse_repetitions() {
        // Those that `may_nest` does not count.
        let tokens = [
            "a",
            "1",
            "'x'",
            "\"q\"",
            "date",
            "timestamp",
            "interval",
            "null",
            "true",
            "values",
            ",",
            ".",
            "$1",
            "(",
            ")",
        ];
        for first in tokens {
            for second in tokens.into_iter().chain([""]) {
                let repeated = format!("{first} {second} ").repeat(6_000);
                for begin in ["select ", "select * from ", ""] {
                    // It is refused, or parsed and dropped.
                    let _ = Statement::parse(&format!("{begin}{repeated}"));
                }
            }
        }
    }

    #[test]
    fn parser_rejects_nested_intervals_and_patterns() {
        let threads = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        let parse = || {
            for levels in [1_900, 3_000, 60_000] {
                let intervals = format!("SELECT {}'1 day'", "INTERVAL ".repeat(levels));
                Statement::parse(&intervals).unwrap_err();
                let (open, close) = ("(".repeat(levels), ")".repeat(levels));
                Statement::parse(&format!(
                    "SELECT * FROM a MATCH_RECOGNIZE (PATTERN ({open}a{close}) DEFINE a AS true)"
                ))
                .unwrap_err();
            }
            let literals = vec!["(INTERVAL '1 day')"; 3_000].join(", ");
            Statement::parse(&format!("SELECT * FROM (VALUES {literals})")).unwrap();
        };
        threads.spawn(parse).unwrap().join().unwrap();
    }
}
