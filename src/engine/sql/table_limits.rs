//! Limits the number of tables that a statement names before it is planned: a table that is named twice is planned
//! twice.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};

use crate::engine::query_error::QueryError;
use crate::engine::statement_limits::MAX_TABLES;

/// Returns an error if the statement names more than [`MAX_TABLES`] tables.
pub(in crate::engine) fn check_tables(statement: &Parsed) -> Result<(), QueryError> {
    let mut tables = TableCounter::default();
    let _: ControlFlow<()> = match statement {
        Parsed::Statement(statement) => Visit::visit(&**statement, &mut tables),
        Parsed::Explain(explain) => return check_tables(&explain.statement),
        _ => return Ok(()),
    };
    match tables.count {
        count if count > MAX_TABLES => Err(QueryError::TooManyTables { count }),
        _ => Ok(()),
    }
}

/// Counts the tables that a statement names.
#[derive(Default)]
struct TableCounter {
    count: usize,
    /// The count before each query that is being visited, outermost first.
    outer_counts: Vec<usize>,
    /// The names of common table expressions that are not visited yet, by the address of their query.
    pending_ctes: HashMap<*const ast::Query, String>,
    /// The number of tables in each common table expression that was visited.
    cte_counts: HashMap<String, usize>,
}

impl Visitor for TableCounter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        self.outer_counts.push(self.count);
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = table.alias.name.value.to_lowercase();
            self.pending_ctes.insert(&raw const *table.query, name);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let before = self.outer_counts.pop().unwrap_or_default();
        if let Some(name) = self.pending_ctes.remove(&(&raw const *query)) {
            let stands_for = self.count.saturating_sub(before).max(1);
            let known = self.cte_counts.entry(name).or_default();
            *known = stands_for.max(*known);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [name] => name.as_ident().map(|name| name.value.to_lowercase()),
            _ => None,
        };
        let stands_for = name.and_then(|name| self.cte_counts.get(&name).copied());
        self.count = self.count.saturating_add(stands_for.unwrap_or(1));
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::sql::statement::Statement;

    #[test]
    fn statement_that_names_too_many_tables_is_rejected() {
        let chain = |times: usize| {
            let mut sql = "WITH c0 AS (SELECT 1 AS x)".to_owned();
            for at in 1..=times {
                sql += &format!(", C{at} AS (SELECT a.x FROM c{0} a, c{0} b)", at - 1);
            }
            Statement::parse(&format!("{sql} SELECT * FROM c{times}"))
        };
        chain(6).unwrap();
        let refused = chain(20).unwrap_err().to_string();
        assert!(refused.contains("more than 500"), "{refused}");
        let straight = (1..100).fold("WITH c0 AS (SELECT 1)".to_owned(), |sql, at| {
            format!("{sql}, c{at} AS (SELECT * FROM c{})", at - 1)
        });
        Statement::parse(&format!("{straight} SELECT * FROM c99")).unwrap();
    }
}
