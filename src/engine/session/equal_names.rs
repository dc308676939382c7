//! Results with equal column names. Postgres answers `SELECT count(*), count(*)`; DataFusion requires that the expressions of
//! a projection have different names.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DataFusionError, Result, ScalarValue, SchemaError, TableReference,
};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, Ident, SelectItem, SetExpr, VisitMut, VisitorMut};

use crate::engine::sql::statement::Query;

/// The beginning of the names that selected expressions have while they are planned.
const UNIQUE: &str = "selected expression ";

/// Plans a statement. If the expressions that `query` selects have equal names, they are planned with different ones, and
/// the columns of the result get the names as written.
///
/// `query` is the statement and the values of its parameters, unless it is an `EXPLAIN`.
pub(super) async fn plan(
    state: &SessionState,
    parsed: Parsed,
    query: Option<(&Query, &[ScalarValue])>,
) -> Result<LogicalPlan> {
    let error = match state.statement_to_plan(parsed).await {
        Err(error) if is_about_equal_names(&error) => error,
        done => return done,
    };
    let Some((query, values)) = query else {
        return Err(error);
    };
    for renames_all in [false, true] {
        let mut renamed = query.with_arguments(values)?;
        let names = rename(&mut renamed, renames_all);
        if names.is_empty() {
            break;
        }
        if let Ok(plan) = state.statement_to_plan(renamed).await {
            return with_names(plan, &names);
        }
    }
    Err(error)
}

fn is_about_equal_names(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::SchemaError(error, _) => matches!(
            **error,
            SchemaError::DuplicateQualifiedField { .. }
                | SchemaError::DuplicateUnqualifiedField { .. }
                | SchemaError::AmbiguousReference { .. }
        ),
        DataFusionError::Plan(text) => text.contains("require unique expression names"),
        _ => false,
    }
}

/// The name of a selected expression in the result; `None` for the one that the planner gives it.
type Name = Option<String>;

/// Gives the selected expressions unique names: those whose names occurred before, or all. Returns the names in the result
/// by position.
fn rename(parsed: &mut Parsed, renames_all: bool) -> Vec<Name> {
    let Parsed::Statement(statement) = parsed else {
        return Vec::new();
    };
    let ast::Statement::Query(query) = &mut **statement else {
        return Vec::new();
    };
    if !query.pipe_operators.is_empty() {
        return Vec::new();
    }
    let _: ControlFlow<()> = query.visit(&mut LaterQueries);
    let mut selects = Vec::new();
    collect_selects(&mut query.body, &mut selects);
    let mut selects = selects.into_iter();
    let names = selects
        .next()
        .map(|select| rename_items(select, renames_all));
    for select in selects {
        rename_items(select, renames_all);
    }
    names.unwrap_or_default()
}

/// Gives expressions unique names whose names nothing can refer to: those of all but the first query of each set operation, whose
/// columns have the names of the first one, of sub-queries in conditions, and of those in `FROM` with names for their columns.
struct LaterQueries;

impl VisitorMut for LaterQueries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let mut selects = Vec::new();
        collect_selects(&mut query.body, &mut selects);
        for select in selects.into_iter().skip(1) {
            rename_items(select, false);
        }
        // The columns of a CTE may have names of their own.
        for table in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            if !table.alias.columns.is_empty() {
                rename_first(&mut table.query);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::Derived {
            subquery,
            alias: Some(alias),
            ..
        } = factor
            && !alias.columns.is_empty()
        {
            rename_first(subquery);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::InSubquery { subquery, .. } | ast::Expr::Exists { subquery, .. } =
            expression
        {
            rename_first(subquery);
        }
        ControlFlow::Continue(())
    }
}

/// Gives the expressions of the first query of a set operation unique names.
fn rename_first(query: &mut ast::Query) {
    let mut selects = Vec::new();
    collect_selects(&mut query.body, &mut selects);
    if let Some(select) = selects.into_iter().next() {
        rename_items(select, false);
    }
}

/// Gives the selected expressions of one `SELECT` unique names, as [`rename`] does.
fn rename_items(select: &mut ast::Select, renames_all: bool) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let ambiguous = ambiguous_names(&select.projection);
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (expression, name) = match item {
            SelectItem::UnnamedExpr(expression) => (expression.clone(), None),
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), Some(normalise(alias))),
            _ => {
                names.push(None);
                continue;
            }
        };
        let label = label(&expression, name.as_ref());
        if renames_all || seen.contains(&label) || ambiguous.contains(&label) {
            *item = SelectItem::ExprWithAlias {
                expr: expression,
                alias: Ident::with_quote('"', format!("{UNIQUE}{at}")),
            };
        } else {
            seen.push(label);
        }
        names.push(name);
    }
    names
}

/// Collects the queries of a set operation, from left to right.
fn collect_selects<'a>(body: &'a mut SetExpr, selects: &mut Vec<&'a mut ast::Select>) {
    match body {
        SetExpr::Select(select) => selects.push(select),
        SetExpr::SetOperation { left, right, .. } => {
            collect_selects(left, selects);
            collect_selects(right, selects);
        }
        SetExpr::Query(query) => collect_selects(&mut query.body, selects),
        _ => {}
    }
}

/// Returns the names of several different expressions. None of them keeps its name, so that an `ORDER BY` of the name fails
/// as ambiguous.
fn ambiguous_names(items: &[SelectItem]) -> Vec<String> {
    let mut first: Vec<(String, &ast::Expr)> = Vec::new();
    let mut found = Vec::new();
    for item in items {
        if let SelectItem::ExprWithAlias { expr, alias } = item {
            let name = normalise(alias);
            match first.iter().find(|(known, _)| *known == name) {
                Some((_, other)) if *other != expr => found.push(name),
                Some(_) => {}
                None => first.push((name, expr)),
            }
        }
    }
    found
}

/// Returns a text that is equal for expressions that probably have equal names.
fn label(expression: &ast::Expr, name: Option<&String>) -> String {
    match (name, expression) {
        (Some(name), _) => name.clone(),
        (None, ast::Expr::Cast { expr, .. } | ast::Expr::Nested(expr)) => label(expr, None),
        (None, ast::Expr::Identifier(name)) => normalise(name),
        (None, other) => other.to_string().to_lowercase(),
    }
}

fn normalise(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

/// Returns the plan with the names of the result. A qualifier for each column, which results do not have, tells equal names
/// apart.
fn with_names(plan: LogicalPlan, names: &[Name]) -> Result<LogicalPlan> {
    let columns = plan.schema().iter().enumerate();
    let columns = columns.map(|(position, (qualifier, field))| {
        let column = Expr::Column(Column::from((qualifier, field)));
        if qualifier.is_some() {
            return Ok(column);
        }
        let at = field.name().strip_prefix(UNIQUE);
        let name = match at.and_then(|at| at.parse::<usize>().ok()) {
            None => field.name().clone(),
            Some(at) => match names.get(at) {
                Some(Some(name)) => name.clone(),
                _ => planned_name(&plan, field.name())?,
            },
        };
        let qualifier = TableReference::bare(format!("{UNIQUE}{position}"));
        Ok(column.alias_qualified(Some(qualifier), name))
    });
    let columns: Vec<Expr> = columns.collect::<Result<_>>()?;
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// Returns the name that the planner would have given to the expression with this alias.
fn planned_name(plan: &LogicalPlan, alias: &str) -> Result<String> {
    let mut name = None;
    plan.apply(|node| {
        node.apply_expressions(|expression| {
            if let Expr::Alias(found) = expression
                && found.name == alias
            {
                name = Some(found.expr.qualified_name().1);
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(name.unwrap_or_else(|| alias.to_owned()))
}
