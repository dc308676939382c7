//! Rewrites the syntax tree of a statement into what the planner reads, with the same meaning: numbers of parameters,
//! literals, `FETCH`, named windows, row values, patterns, and functions of other databases.
//!
//! The text of the statement stays as the client wrote it, and so do the positions in the tree.

mod cast_names;
mod casts;
mod dates;
mod functions;
mod odbc;
mod patterns;
mod quantified;
mod row_values;
mod template;
#[cfg(test)]
mod tests;
mod windows;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Expr, Fetch, Ident, LimitClause, NamedWindowDefinition, Query, Select, SelectFlavor,
    SelectItem, SetExpr, Value, ValueWithSpan, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::engine::query_error::QueryError;

/// Rewrites the statement. `questions` are the positions of the parameters `?`, in order; each becomes `$1`, `$2`, ….
///
/// # Errors
/// If a part of the statement that would have to be rewritten is not supported in its place.
pub(in crate::engine) fn rewrite(
    statement: &mut Parsed,
    questions: &[Location],
) -> Result<(), QueryError> {
    let statement = match statement {
        Parsed::Statement(statement) => statement,
        Parsed::Explain(explain) => return rewrite(&mut explain.statement, questions),
        _ => return Ok(()),
    };
    let mut visitor = RewriteVisitor {
        questions,
        windows: Vec::new(),
    };
    match VisitMut::visit(&mut **statement, &mut visitor) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct RewriteVisitor<'a> {
    questions: &'a [Location],
    /// The named windows of each query and `SELECT` that is being visited, outermost first.
    windows: Vec<Vec<NamedWindowDefinition>>,
}

fn into_flow(done: Result<(), QueryError>) -> ControlFlow<QueryError> {
    match done {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for RewriteVisitor<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        replace_fetch(query);
        // `ORDER BY` belongs to the query, and may use the windows of its `SELECT`.
        self.windows.push(match &*query.body {
            SetExpr::Select(select) => select.named_window.clone(),
            _ => Vec::new(),
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        self.windows.pop();
        into_flow(cast_names::rewrite_query(query))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        self.windows.push(select.named_window.clone());
        if select.flavor == SelectFlavor::FromFirstNoSelect && select.projection.is_empty() {
            let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
            select.projection.push(all);
            select.flavor = SelectFlavor::Standard;
        }
        select.projection.iter_mut().for_each(name_item);
        into_flow(row_values::rewrite_where(select))
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<QueryError> {
        self.windows.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<QueryError> {
        row_values::write_compared_rows(expression);
        let Expr::Function(call) = expression else {
            return ControlFlow::Continue(());
        };
        let windows = self.windows.last().map_or(&[][..], Vec::as_slice);
        into_flow(windows::resolve(&mut call.over, windows))
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<QueryError> {
        into_flow(rewrite_expression(expression))
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<QueryError> {
        rewrite_value(value, self.questions);
        ControlFlow::Continue(())
    }
}

/// Rewrites an expression whose operands are rewritten already.
fn rewrite_expression(expression: &mut Expr) -> Result<(), QueryError> {
    match expression {
        Expr::Function(_) => functions::rewrite_call(expression),
        Expr::Identifier(_) => {
            functions::rewrite_identifier(expression);
            Ok(())
        }
        Expr::Cast { .. } => {
            casts::rewrite_cast(expression);
            Ok(())
        }
        Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => {
            patterns::rewrite_pattern(expression)
        }
        Expr::AnyOp { .. } => {
            quantified::rewrite_any(expression);
            Ok(())
        }
        Expr::BinaryOp { .. } | Expr::InList { .. } | Expr::InSubquery { .. } => {
            row_values::rewrite_comparison(expression)
        }
        _ => Ok(()),
    }
}

/// Whether the expression itself, rather than an operand, may be rewritten.
fn may_be_rewritten(expression: &Expr) -> bool {
    match expression {
        Expr::Function(call) => functions::is_rewritten(call),
        Expr::Cast { data_type, .. } => casts::is_rewritten(data_type),
        Expr::Like { escape_char, .. } | Expr::ILike { escape_char, .. } => escape_char.is_some(),
        Expr::SimilarTo { .. } | Expr::AnyOp { .. } => true,
        Expr::BinaryOp { left, .. } => row_values::is_row(left),
        Expr::InList { expr, .. } => row_values::is_row(expr),
        _ => false,
    }
}

/// Gives a selected expression that may be rewritten the name that it has in the text.
fn name_item(item: &mut SelectItem) {
    if let SelectItem::UnnamedExpr(expression) = item
        && may_be_rewritten(expression)
    {
        let alias = Ident::with_quote('"', expression.to_string());
        let expr = std::mem::replace(expression, Expr::Tuple(Vec::new()));
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}

/// Numbers a parameter, and turns texts of other notations into ordinary ones.
fn rewrite_value(value: &mut ValueWithSpan, questions: &[Location]) {
    let text = match &mut value.value {
        Value::Placeholder(name) => {
            if name == "?"
                && let Ok(at) = questions.binary_search(&value.span.start)
            {
                *name = format!("${}", at + 1);
            }
            return;
        }
        Value::NationalStringLiteral(text)
        | Value::UnicodeStringLiteral(text)
        | Value::EscapedStringLiteral(text)
        | Value::TripleSingleQuotedString(text) => std::mem::take(text),
        Value::QuoteDelimitedStringLiteral(text)
        | Value::NationalQuoteDelimitedStringLiteral(text) => std::mem::take(&mut text.value),
        _ => return,
    };
    value.value = Value::SingleQuotedString(text);
}

/// Replaces `FETCH FIRST n ROWS ONLY` by `LIMIT n`. Without a number, it is one row.
fn replace_fetch(query: &mut Query) {
    let Some(Fetch {
        with_ties: false,
        percent: false,
        quantity,
    }) = &query.fetch
    else {
        return;
    };
    let quantity = quantity.clone().unwrap_or_else(|| template::number(1));
    query.fetch = None;
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(quantity),
        // `OFFSET, LIMIT` with `FETCH` was refused before.
        Some(LimitClause::OffsetCommaLimit { .. }) => {}
        none => {
            *none = Some(LimitClause::LimitOffset {
                limit: Some(quantity),
                offset: None,
                limit_by: Vec::new(),
            });
        }
    }
}
