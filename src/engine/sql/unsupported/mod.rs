//! Refuses what the parser accepts and the planner does not read: it would answer another question than was asked.
//!
//! The structs of the syntax tree are destructured without `..`, so that a new field of a new version of sqlparser is a
//! compile error until it is decided here whether the planner reads it.

mod calls;
mod expressions;
mod foreign_functions;
mod queries;
mod refusal;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};

use crate::engine::query_error::QueryError;
use refusal::{Checked, Refusal};

/// Returns an error that names the first clause, operator or function of the statement that is not supported, and what to
/// use instead.
pub(in crate::engine) fn check_supported(statement: &Parsed) -> Result<(), QueryError> {
    let found = match statement {
        Parsed::Statement(statement) => Visit::visit(&**statement, &mut SupportVisitor),
        Parsed::Explain(explain) => return check_supported(&explain.statement),
        _ => return Ok(()),
    };
    match found {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(Refusal { what, remedy }) => {
            Err(QueryError::Unsupported { what, remedy })
        }
    }
}

struct SupportVisitor;

fn into_flow(checked: Checked) -> ControlFlow<Refusal> {
    match checked {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}

impl Visitor for SupportVisitor {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Refusal> {
        into_flow(queries::check_query(query))
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Refusal> {
        into_flow(queries::check_select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<Refusal> {
        into_flow(tables::check_factor(factor))
    }

    fn pre_visit_expr(&mut self, expression: &ast::Expr) -> ControlFlow<Refusal> {
        into_flow(expressions::check_expression(expression))
    }
}
