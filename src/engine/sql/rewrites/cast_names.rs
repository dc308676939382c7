//! Casts whose value has the name of another one. The planner names `CAST(a AS DATE)` like `a`, and refuses to group by both, or
//! to compute the same function of both.
//!
//! Such a cast becomes `coalesce(CAST(a AS DATE))`, which has a name of its own and is simplified to the cast.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Value, VisitMut,
    VisitorMut, visit_expressions, visit_expressions_mut,
};

use super::template::expand;
use crate::engine::query_error::QueryError;

/// The maximum size of all texts that are compared, in bytes. Longer queries stay as they are.
const MAX_COMPARED_BYTES: usize = 1 << 20;
/// The maximum number of casts with the same name.
const MAX_CASTS: usize = 16;

/// Gives the casts of the query names of their own where they would have that of another value.
///
/// # Errors
/// If a cast cannot be written differently.
pub(super) fn rewrite_query(query: &mut Query) -> Result<(), QueryError> {
    let casts = rewrite_body(&mut query.body)?;
    if !casts.is_empty()
        && let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(keys) = &mut order_by.kind
    {
        for key in keys {
            rename(&mut key.expr, &casts)?;
        }
    }
    Ok(())
}

/// Renames the casts of each `SELECT`, and returns those that the order of the rows may name.
fn rewrite_body(body: &mut SetExpr) -> Result<HashMap<String, usize>, QueryError> {
    match body {
        SetExpr::Select(select) => rewrite_select(select),
        // The rows of a set operation are ordered by its columns.
        SetExpr::SetOperation { left, right, .. } => {
            rewrite_body(left)?;
            rewrite_body(right)?;
            Ok(HashMap::new())
        }
        _ => Ok(HashMap::new()),
    }
}

fn rewrite_select(select: &mut Select) -> Result<HashMap<String, usize>, QueryError> {
    let casts = casts_with_names_of_others(select).unwrap_or_default();
    if casts.is_empty() {
        return Ok(casts);
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expression) = item
            && contains(expression, &casts)
        {
            let alias = Ident::with_quote('"', expression.to_string());
            let expr = expression.clone();
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
    rename(select, &casts)?;
    Ok(casts)
}

/// Returns the texts of the casts to rename, with a number for each; `None` if the query is too large.
fn casts_with_names_of_others(select: &Select) -> Option<HashMap<String, usize>> {
    let mut compared = 0;
    // The expressions without casts, with all forms in which they occur.
    let mut forms: HashMap<String, HashMap<String, Expr>> = HashMap::new();
    let mut has_casts = false;
    let _: ControlFlow<()> = visit_expressions(select, |part| {
        has_casts |= is_cast(part);
        match has_casts {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if !has_casts {
        return Some(HashMap::new());
    }
    let mut add = |expression: &Expr| {
        let text = expression.to_string();
        compared += text.len();
        let name = without_casts(expression.clone()).to_string();
        let known = forms.entry(name).or_default();
        known.entry(text).or_insert_with(|| expression.clone());
        match compared <= MAX_COMPARED_BYTES {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let mut is_complete = visit_expressions(select, |part| match part {
        Expr::Function(_) => add(part),
        _ => ControlFlow::Continue(()),
    })
    .is_continue();
    if let GroupByExpr::Expressions(keys, _) = &select.group_by
        && !keys.is_empty()
    {
        // A number as a key stands for an expression of the result.
        let results = select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(result) => Some(result),
            SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        for key in keys.iter().chain(results) {
            is_complete &= add(key).is_continue();
        }
    }
    if !is_complete {
        return None;
    }
    let mut casts = HashMap::new();
    for form in forms.into_values().filter(|form| form.len() > 1) {
        let texts: BTreeSet<String> = form.into_values().flat_map(outermost_casts).collect();
        for (number, text) in texts.into_iter().take(MAX_CASTS).enumerate() {
            casts.entry(text).or_insert(number + 1);
        }
    }
    Some(casts)
}

fn is_cast(expression: &Expr) -> bool {
    matches!(expression, Expr::Cast { .. } | Expr::TypedString(_))
}

/// Returns the expression without casts, and with columns by their names only.
fn without_casts(mut expression: Expr) -> Expr {
    let _: ControlFlow<()> = visit_expressions_mut(&mut expression, |part| {
        let inner = match part {
            Expr::Cast { expr, .. } | Expr::Nested(expr) => Some((**expr).clone()),
            Expr::TypedString(typed) => Some(Expr::Value(typed.value.clone())),
            Expr::CompoundIdentifier(names) => names.last().cloned().map(Expr::Identifier),
            _ => None,
        };
        if let Some(inner) = inner {
            *part = inner;
        }
        if let Expr::Identifier(name) = part
            && name.quote_style.take().is_none()
        {
            name.value = name.value.to_lowercase();
        }
        // The planner names numbers by their value: 3.0 like 3.00.
        if let Expr::Value(value) = part
            && let Value::Number(digits, _) = &mut value.value
            && let Ok(number) = digits.parse::<f64>()
        {
            *digits = number.to_string();
        }
        ControlFlow::Continue(())
    });
    expression
}

/// Returns the texts of the casts that are not within others.
fn outermost_casts(mut expression: Expr) -> Vec<String> {
    let mut found = Vec::new();
    // Inner casts come first: they are dropped when an outer one follows.
    let _: ControlFlow<()> = visit_expressions_mut(&mut expression, |part| {
        if is_cast(part) {
            let text = part.to_string();
            found.retain(|inner: &String| !text.contains(inner.as_str()));
            found.push(text);
        }
        ControlFlow::Continue(())
    });
    found
}

fn contains(expression: &Expr, casts: &HashMap<String, usize>) -> bool {
    visit_expressions(expression, |part| {
        match is_cast(part) && casts.contains_key(&part.to_string()) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .is_break()
}

/// Writes these casts as calls of `coalesce`, as many as their number.
fn rename(part: &mut impl VisitMut, casts: &HashMap<String, usize>) -> Result<(), QueryError> {
    let mut renaming = Renaming {
        casts,
        depth: 0,
        calls: 0,
    };
    match part.visit(&mut renaming) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The visit of an expression. A cast within a renamed one stays.
struct Renaming<'a> {
    casts: &'a HashMap<String, usize>,
    /// The number of expressions that are being visited from the cast on; 0 outside casts.
    depth: usize,
    /// The number of calls for that cast.
    calls: usize,
}

impl VisitorMut for Renaming<'_> {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, part: &mut Expr) -> ControlFlow<QueryError> {
        if self.depth > 0 {
            self.depth += 1;
        } else if is_cast(part)
            && let Some(calls) = self.casts.get(&part.to_string())
        {
            (self.depth, self.calls) = (1, *calls);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, part: &mut Expr) -> ControlFlow<QueryError> {
        if self.depth == 0 {
            return ControlFlow::Continue(());
        }
        self.depth -= 1;
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        for _ in 0..self.calls {
            match expand("coalesce(arg1)", std::slice::from_ref(part)) {
                Ok(call) => *part = call,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}
