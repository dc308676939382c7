//! DataFusion's rules that make joins of sub-queries, also of `IN` and `EXISTS` in a `SELECT` list, and with legible errors.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Filter, Projection};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::parts::{contains, mentions};

const UNSUPPORTED: &str = "cannot run this sub-query: it uses columns of the outer query in a way that is not supported; compare them by = in its WHERE, or use a join";

/// Makes joins of `IN` and `EXISTS` in conditions and in `SELECT` lists.
#[derive(Debug, Default)]
pub(in crate::engine::plan) struct PredicateSubqueries(DecorrelatePredicateSubquery);

impl OptimizerRule for PredicateSubqueries {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Projection(step) if has_predicate(&step)? => {
                self.rewrite_list(step, config)
            }
            plan => self.0.rewrite(plan, config).map_err(legible),
        }
    }
}

/// Makes joins of scalar sub-queries that depend on the row.
#[derive(Debug, Default)]
pub(in crate::engine::plan) struct ScalarSubqueries(ScalarSubqueryToJoin);

impl OptimizerRule for ScalarSubqueries {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        self.0.rewrite(plan, config).map_err(legible)
    }
}

/// Returns an error without the names of DataFusion's own columns.
fn legible(error: DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::SchemaError(..) => DataFusionError::NotImplemented(UNSUPPORTED.to_owned()),
        // A sub-query without rows has no columns either, where it is optimised before it is joined.
        DataFusionError::Plan(text) if text.contains("single expression required") => {
            DataFusionError::NotImplemented(UNSUPPORTED.to_owned())
        }
        _ => error,
    }
}

fn is_predicate(part: &Expr) -> bool {
    matches!(part, Expr::Exists(_) | Expr::InSubquery(_))
}

fn has_predicate(step: &Projection) -> Result<bool> {
    for expression in &step.expr {
        if contains(expression, is_predicate)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl PredicateSubqueries {
    /// Makes joins of the sub-queries in a `SELECT` list, by way of a condition with the same expressions.
    fn rewrite_list(
        &self,
        step: Projection,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let mut carried = Vec::new();
        for expression in &step.expr {
            if contains(expression, is_predicate)? {
                carried.push(expression.clone());
            }
        }
        let Some(condition) = carry(carried) else {
            return Ok(Transformed::no(LogicalPlan::Projection(step)));
        };
        let filter = Filter::try_new(condition, Arc::clone(&step.input))?;
        let joined = self
            .0
            .rewrite(LogicalPlan::Filter(filter), config)
            .map_err(legible)?;
        let Some((mut found, input)) = carried_parts(joined.data) else {
            return Ok(Transformed::no(LogicalPlan::Projection(step)));
        };
        let original = LogicalPlan::Projection(step.clone());
        let names = NamePreserver::new(&original);
        let mut columns = Vec::with_capacity(step.expr.len());
        for expression in step.expr {
            let is_carried = contains(&expression, is_predicate)?;
            match is_carried.then(|| found.pop()).flatten() {
                Some(value) => columns.push(names.save(&expression).restore(value)),
                None => columns.push(expression),
            }
        }
        let rewritten = LogicalPlan::Projection(Projection::try_new(columns, input)?);
        // A sub-query without a join stays, and is refused after the optimisation.
        let has_rest = mentions(&rewritten, is_predicate)?;
        Ok(match has_rest {
            true => Transformed::no(original),
            false => Transformed::yes(rewritten),
        })
    }
}

/// Returns a condition with these expressions, which DataFusion does not split: `e1 IS NULL OR (e2 IS NULL OR …)`.
fn carry(expressions: Vec<Expr>) -> Option<Expr> {
    let parts = expressions.into_iter().rev();
    parts
        .map(|expression| Expr::IsNull(Box::new(expression)))
        .reduce(|rest, part| part.or(rest))
}

/// Returns the expressions that a condition carries, the last one first, and the input of the condition.
fn carried_parts(plan: LogicalPlan) -> Option<(Vec<Expr>, Arc<LogicalPlan>)> {
    let LogicalPlan::Projection(step) = plan else {
        return None;
    };
    let LogicalPlan::Filter(filter) = Arc::unwrap_or_clone(step.input) else {
        return None;
    };
    let mut found = Vec::new();
    let mut rest = filter.predicate;
    loop {
        let (part, next) = match rest {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Or,
                right,
            }) => (*left, Some(*right)),
            part => (part, None),
        };
        let Expr::IsNull(value) = part else {
            return None;
        };
        found.insert(0, *value);
        match next {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some((found, filter.input))
}
