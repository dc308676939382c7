//! Statements that are certain to be planned in little time. They are planned on the serving thread; others go to the
//! planning threads, which costs more than planning a small query.
//!
//! A statement is simple when planning it evaluates, expands and looks up little: it is short, reads a few of the
//! tables that always exist, and calls only functions that are cheap to evaluate on constants.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, ObjectName, TableFactor, UnaryOperator, Visit, Visitor,
};

use crate::engine::schema_names::ARCHIVE;
use crate::engine::tables::table_names::public_table_names;

/// The maximum length of a simple statement, in bytes.
pub(in crate::engine) const MAX_BYTES: usize = 4 << 10;
/// The maximum number of expressions.
const MAX_EXPRESSIONS: usize = 256;
/// The maximum number of tables.
const MAX_TABLES: usize = 4;
/// The maximum number of `SELECT`s: an outer one may repeat the expressions of an inner one.
const MAX_SELECTS: usize = 2;

/// Functions with short run times and small results for small arguments, whatever their values; sorted.
#[rustfmt::skip]
const CHEAP_FUNCTIONS: [&str; 91] = [
    "abs", "acos", "add_interval", "asin", "atan", "atan2", "avg", "btrim", "cbrt", "ceil",
    "char_length", "character_length", "coalesce", "corr", "cos", "count", "covar_pop",
    "covar_samp", "current_date", "current_time", "current_timestamp", "date_bin", "date_part",
    "date_trunc", "degrees", "dense_rank", "ends_with", "exp", "extract", "first_value", "floor",
    "from_unixtime", "greatest", "ifnull", "interval_divide", "interval_length",
    "interval_multiply", "isnan", "iszero", "lag", "last_value", "lead", "least", "left", "length",
    "ln", "log", "log10", "log2", "lower", "ltrim", "make_date", "max", "mean", "min", "nanvl",
    "now", "ntile", "nullif", "nvl", "nvl2", "percent_rank", "power", "radians", "rank", "right",
    "round", "row_number", "rtrim", "sign", "signum", "sin", "sqrt", "starts_with", "stddev",
    "stddev_pop", "stddev_samp", "strpos", "substr", "sum", "tan", "timezone", "to_char", "to_date",
    "to_instant", "to_local", "to_timestamp", "trim", "upper", "var_pop", "var_samp",
];

/// Whether calls of the function are always cheap.
pub(in crate::engine) fn is_cheap_function(name: &str) -> bool {
    CHEAP_FUNCTIONS.binary_search(&name).is_ok()
}

/// Whether a statement of at most [`MAX_BYTES`] bytes is simple.
pub(in crate::engine) fn is_simple(statement: &Parsed) -> bool {
    let Parsed::Statement(statement) = statement else {
        return false;
    };
    let ast::Statement::Query(query) = &**statement else {
        return false;
    };
    let mut found = SimplicityVisitor {
        tables: public_table_names()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..SimplicityVisitor::default()
    };
    Visit::visit(&**query, &mut found).is_continue()
}

/// Counts of the parts of a statement. The visit stops at the first part that is not simple.
#[derive(Default)]
struct SimplicityVisitor {
    /// Names of tables, and of common table expressions that were visited.
    tables: Vec<String>,
    expressions: usize,
    table_references: usize,
    selects: usize,
}

fn continue_if(is_simple: bool) -> ControlFlow<()> {
    match is_simple {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}

impl Visitor for SimplicityVisitor {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let Some(with) = &query.with else {
            return ControlFlow::Continue(());
        };
        let names = with.cte_tables.iter().map(|table| &table.alias.name);
        self.tables
            .extend(names.map(|name| name.value.to_lowercase()));
        continue_if(!with.recursive)
    }

    fn pre_visit_select(&mut self, _: &ast::Select) -> ControlFlow<()> {
        self.selects += 1;
        continue_if(self.selects <= MAX_SELECTS)
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.table_references += 1;
        let name = relation.0.last().and_then(|name| name.as_ident());
        let name = name.map(|name| name.value.to_lowercase());
        // Tables of the archive are opened by the first query that names them.
        let mut schemas = relation.0.iter().rev().skip(1);
        let is_archive = schemas.any(|part| {
            part.as_ident()
                .is_some_and(|part| part.value.eq_ignore_ascii_case(ARCHIVE))
        });
        let is_known = !is_archive && name.is_some_and(|name| self.tables.contains(&name));
        continue_if(is_known && self.table_references <= MAX_TABLES)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        continue_if(matches!(
            factor,
            TableFactor::Table { args: None, .. } | TableFactor::Derived { .. }
        ))
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        self.expressions += 1;
        continue_if(self.expressions <= MAX_EXPRESSIONS && is_simple_expression(expression))
    }
}

/// Whether an expression is simple, regardless of its operands.
fn is_simple_expression(expression: &Expr) -> bool {
    match expression {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Interval(_)
        | Expr::Nested(_)
        | Expr::Between { .. }
        | Expr::InList { .. }
        | Expr::Cast { .. }
        | Expr::Case { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::AtTimeZone { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..) => true,
        Expr::BinaryOp { op, .. } => is_cheap_operator(op),
        Expr::UnaryOp { op, .. } => matches!(
            op,
            UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not
        ),
        // A pattern match on a constant text would be evaluated during planning.
        Expr::Like { expr, .. } | Expr::ILike { expr, .. } => {
            matches!(**expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        }
        Expr::Function(function) => match function.name.0.as_slice() {
            [name] => name
                .as_ident()
                .is_some_and(|name| is_cheap_function(&name.value.to_lowercase())),
            _ => false,
        },
        _ => false,
    }
}

fn is_cheap_operator(operator: &BinaryOperator) -> bool {
    matches!(
        operator,
        BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::Gt
            | BinaryOperator::Lt
            | BinaryOperator::GtEq
            | BinaryOperator::LtEq
            | BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::And
            | BinaryOperator::Or
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sql::statement::Statement;

    #[test]
    fn cheap_functions_are_sorted() {
        assert!(CHEAP_FUNCTIONS.is_sorted());
    }

    #[test]
    fn statement_of_a_dashboard_is_simple() {
        for sql in [
            "SELECT 1",
            "SELECT * FROM data_min WHERE asset_id = 'a' AND timestamp >= '2024-05-01' LIMIT 10",
            "SELECT d.timestamp, avg(d.value) FROM public.data_h d JOIN assets a ON a.id = d.asset_id \
             WHERE a.name LIKE 'P%' AND d.asset_id IN (?, ?) GROUP BY 1 ORDER BY 1",
            "WITH x AS (SELECT date_trunc('day', timestamp) AS t, max(max) AS m FROM data_h GROUP BY 1) \
             SELECT t, round(m, 2) FROM x WHERE t > now() - INTERVAL '7 days'",
            "SELECT count(*) FROM raw_readings WHERE value BETWEEN 1 AND 2 AND id IS NOT NULL",
        ] {
            assert!(Statement::parse_simple(sql).is_some(), "{sql}");
        }
        let option = Statement::parse_simple("SET TIME ZONE 'Europe/Berlin'");
        assert!(matches!(option, Some(Statement::Set(_))));
    }

    #[test]
    fn statement_slow_to_plan_is_not_simple() {
        let long = format!("SELECT 1 IN ({})", vec!["1"; 300].join(","));
        let union = ["SELECT 1"; 10].join(" UNION ALL ");
        for sql in [
            "SELECT regexp_count(repeat('A', 3000000), '.*[^A-Z]|[A-Z]')",
            "SELECT count(*) FROM data_d WHERE levenshtein(asset_id, 'x') = 1",
            "SELECT 'a' || 'b'",
            "SELECT 'a' ~ 'b'",
            "SELECT 'aaa' LIKE '%a%a'",
            "SELECT [1, 2]",
            "SELECT * FROM everyone",
            "SELECT * FROM neighbours('a', 3)",
            "SELECT * FROM generate_series(1, 10)",
            "SELECT * FROM data_d, UNNEST([1, 2])",
            "SELECT * FROM data_d a, data_d b, data_d c, data_d d, data_d e",
            "SELECT * FROM (SELECT * FROM (SELECT * FROM data_d))",
            "SELECT (SELECT max(value) FROM data_d)",
            "SELECT count(*) FROM data_d GROUP BY CUBE (asset_id, year)",
            "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT * FROM x",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
            "SELECT CASE WHEN 1 THEN CASE WHEN",
            &long,
            &union,
            &format!("SELECT '{}'", "x".repeat(MAX_BYTES)),
        ] {
            assert!(Statement::parse_simple(sql).is_none(), "{sql}");
        }
    }
}
