//! `IN` with a sub-query, and comparisons with `ANY` and `ALL` of one, with three results. DataFusion's mark join of `IN` is
//! false where SQL has null, and its anti join of `NOT IN` compares one column only.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::logical_plan::{Distinct, Projection, Subquery};
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr,
    lit, not, when,
};

use super::parts::{contains, is_correlated, subquery_of};
use super::totals;
use crate::engine::named_expressions::map_named_expressions;

/// The name of the column of a correlated sub-query in `IN`, which must not be that of a column in its condition.
const VALUE: &str = "__value_of_subquery";

/// The table of a column of a sub-query in `IN` that belongs to no other.
const MEMBERS: &str = "__members_of_subquery";

/// Rewrites the memberships in the expressions of the node.
pub(super) fn rewrite(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let memberships = Memberships { schema: &schema };
    let is_filter = matches!(node, LogicalPlan::Filter(_));
    let is_condition = matches!(node, LogicalPlan::Join(_));
    map_named_expressions(node, |expression| {
        if !contains(&expression, |part| subquery_of(part).is_some())? {
            return Ok(Transformed::no(expression));
        }
        let prepared = expression.transform_up(|part| prepare(part, &schema))?;
        let rewritten = prepared.transform_data(|expression| match (is_filter, is_condition) {
            (true, _) => memberships.filter(expression),
            (_, true) => memberships.condition(expression),
            _ => memberships.value(expression),
        })?;
        Ok(rewritten)
    })
}

/// Returns a comparison with `ANY` or `ALL` as `IN` or `EXISTS`, `IN` with a column whose name is unique, and `EXISTS` that does
/// not depend on the row as a count. Refuses what has wrong results.
fn prepare(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. }) =
        &part
        && is_correlated(subquery)
        && skips_rows(&subquery.subquery)?
    {
        return plan_err!(
            "OFFSET in a sub-query that refers to columns of the outer query is not supported; use row_number() OVER (PARTITION BY … ORDER BY …) > … in a sub-query of FROM, and a join"
        );
    }
    Ok(match part {
        // DataFusion compares each row with each row of the sub-query, until one is found.
        Expr::Exists(found) if !is_correlated(&found.subquery) => {
            let has_row = has_rows(
                LogicalPlanBuilder::new_from_arc(Arc::clone(&found.subquery.subquery))
                    .limit(0, Some(1))?,
            )?;
            Transformed::yes(match found.negated {
                true => not(has_row),
                false => has_row,
            })
        }
        Expr::SetComparison(comparison) => Transformed::yes(quantified(comparison, schema)?),
        Expr::InSubquery(mut found) => match with_own_column(&found.subquery)? {
            Some(subquery) => {
                found.subquery = subquery;
                Transformed::yes(Expr::InSubquery(found))
            }
            None => Transformed::no(Expr::InSubquery(found)),
        },
        part => Transformed::no(part),
    })
}

/// Returns a comparison with `ANY` or `ALL` as another expression.
fn quantified(comparison: SetComparison, schema: &DFSchema) -> Result<Expr> {
    let SetComparison {
        expr, subquery, op, ..
    } = &comparison;
    let is_all = comparison.quantifier == SetQuantifier::All;
    if let Some(compared) = totals::compare(expr, *op, subquery, is_all)? {
        return Ok(compared);
    }
    match (is_all, op) {
        (false, Operator::Eq) => membership(comparison, false),
        (true, Operator::NotEq) => membership(comparison, true),
        _ => compared_with_all(comparison, schema),
    }
}

fn membership(comparison: SetComparison, negated: bool) -> Result<Expr> {
    let SetComparison { expr, subquery, .. } = comparison;
    let subquery = with_own_column(&subquery)?.unwrap_or(subquery);
    Ok(Expr::InSubquery(InSubquery::new(expr, subquery, negated)))
}

/// Returns the sub-query with a column of a table, and `None` if it has one already. DataFusion reads a column of no
/// table twice, and has no column of `VALUES`.
fn with_own_column(subquery: &Subquery) -> Result<Option<Subquery>> {
    let query = &subquery.subquery;
    if is_correlated(subquery) {
        let renamed = with_unique_name(query)?;
        return Ok(renamed.map(|query| subquery.with_plan(Arc::new(query))));
    }
    let (None, field) = query.schema().qualified_field(0) else {
        return Ok(None);
    };
    let column = Expr::Column(Column::new(Some(MEMBERS), field.name()));
    let query = LogicalPlanBuilder::new_from_arc(Arc::clone(query))
        .alias(MEMBERS)?
        .project(vec![column])?
        .build()?;
    Ok(Some(subquery.with_plan(Arc::new(query))))
}

/// Returns a correlated query with another name for its column. DataFusion names a cast like the column that is cast, and adds
/// the columns of the condition.
fn with_unique_name(query: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    Ok(match query {
        LogicalPlan::Projection(step) => match &*step.expr {
            [value] => {
                let value = value.clone().unalias();
                let value = value.alias_qualified(Some(MEMBERS), VALUE);
                let step = Projection::try_new(vec![value], Arc::clone(&step.input))?;
                Some(LogicalPlan::Projection(step))
            }
            _ => None,
        },
        LogicalPlan::Distinct(Distinct::All(input)) => with_unique_name(input)?
            .map(|input| LogicalPlan::Distinct(Distinct::All(Arc::new(input)))),
        _ => None,
    })
}

fn has_limit(query: &LogicalPlan) -> Result<bool> {
    query.exists(|step| Ok(matches!(step, LogicalPlan::Limit(_))))
}

fn skips_rows(query: &LogicalPlan) -> Result<bool> {
    query.exists(|step| {
        Ok(match step {
            LogicalPlan::Limit(limit) => {
                limit.skip.as_ref().is_some_and(|rows| **rows != lit(0_i64))
            }
            _ => false,
        })
    })
}

/// Returns a comparison with all or any rows of a sub-query as `EXISTS` of a row that decides it.
fn compared_with_all(comparison: SetComparison, schema: &DFSchema) -> Result<Expr> {
    let SetComparison {
        expr,
        subquery,
        op,
        quantifier,
    } = comparison;
    let subquery = with_own_column(&subquery)?.unwrap_or(subquery);
    if is_correlated(&subquery) && has_limit(&subquery.subquery)? {
        return plan_err!(
            "LIMIT in a sub-query that refers to columns of the outer query is not supported with ANY and ALL; compare with (SELECT min(…) FROM …) or (SELECT max(…) FROM …)"
        );
    }
    let left = expr.transform_up(|part| {
        Ok(match part {
            Expr::Column(column) => {
                let field = schema.field_from_column(&column)?;
                Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column))
            }
            part => Transformed::no(part),
        })
    })?;
    let compared = binary_expr(left.data, op, first_column(&subquery));
    let has_row = |condition: Expr| {
        let plan = LogicalPlanBuilder::new_from_arc(Arc::clone(&subquery.subquery))
            .filter(condition)?
            .build()?;
        Ok::<_, datafusion::common::DataFusionError>(exists(&subquery, plan))
    };
    let is_decided = match quantifier {
        SetQuantifier::Any => has_row(compared.clone().is_true())?,
        SetQuantifier::All => has_row(compared.clone().is_false())?,
    };
    let is_any = quantifier == SetQuantifier::Any;
    when(is_decided, lit(is_any))
        .when(has_row(compared.is_null())?, unknown_value())
        .otherwise(lit(!is_any))
}

fn first_column(subquery: &Subquery) -> Expr {
    let schema = subquery.subquery.schema();
    Expr::Column(Column::from(schema.qualified_field(0)))
}

fn exists(subquery: &Subquery, plan: LogicalPlan) -> Expr {
    Expr::Exists(Exists {
        subquery: Subquery {
            outer_ref_columns: plan.all_out_ref_exprs(),
            subquery: Arc::new(plan),
            spans: subquery.spans.clone(),
        },
        negated: false,
    })
}

fn unknown_value() -> Expr {
    lit(ScalarValue::Boolean(None))
}

struct Memberships<'a> {
    /// The columns of the query around the sub-queries.
    schema: &'a DFSchema,
}

impl Memberships<'_> {
    /// Rewrites a condition of `WHERE`.
    fn filter(&self, predicate: Expr) -> Result<Transformed<Expr>> {
        let mut is_changed = false;
        let mut parts = Vec::new();
        for part in split_conjunction_owned(predicate) {
            let excluded = match &part {
                Expr::InSubquery(found) => Some(found),
                Expr::Not(inner) => match &**inner {
                    Expr::InSubquery(found) => Some(found),
                    _ => None,
                },
                _ => None,
            };
            let part = match excluded {
                Some(found) if is_join_of_columns(found) && self.is_unknown(found)?.is_none() => {
                    Transformed::no(part)
                }
                _ => self.condition(part)?,
            };
            is_changed |= part.transformed;
            parts.push(part.data);
        }
        let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
        Ok(Transformed::new(
            predicate,
            is_changed,
            TreeNodeRecursion::Continue,
        ))
    }

    /// Rewrites an expression whose result may be false instead of null.
    fn condition(&self, expression: Expr) -> Result<Transformed<Expr>> {
        expression.transform_down(|part| {
            let rewritten = match part {
                Expr::BinaryExpr(BinaryExpr {
                    op: Operator::And | Operator::Or,
                    ..
                })
                | Expr::Alias(_)
                | Expr::IsTrue(_)
                | Expr::IsNotTrue(_) => return Ok(Transformed::no(part)),
                Expr::Not(inner) => match *inner {
                    Expr::InSubquery(found) => self.condition_of(InSubquery {
                        negated: !found.negated,
                        ..found
                    })?,
                    inner => self.value(Expr::Not(Box::new(inner)))?,
                },
                Expr::InSubquery(found) => self.condition_of(found)?,
                part => self.value(part)?,
            };
            Ok(done(rewritten))
        })
    }

    fn condition_of(&self, found: InSubquery) -> Result<Transformed<Expr>> {
        if !found.negated || has_unsupported_limit(&found)? {
            return Ok(Transformed::no(Expr::InSubquery(found)));
        }
        let is_unknown = self.is_unknown(&found)?;
        let is_other = is_found(found).is_not_true();
        Ok(Transformed::yes(match is_unknown {
            Some(is_unknown) => is_other.and(is_unknown.is_not_true()),
            None => is_other,
        }))
    }

    /// Rewrites an expression whose result may be null.
    fn value(&self, expression: Expr) -> Result<Transformed<Expr>> {
        expression.transform_down(|part| {
            Ok(match part {
                Expr::InSubquery(found) => done(self.value_of(found)?),
                Expr::IsTrue(inner) => done(
                    self.condition(*inner)?
                        .update_data(|inner| Expr::IsTrue(Box::new(inner))),
                ),
                Expr::IsNotTrue(inner) => done(
                    self.condition(*inner)?
                        .update_data(|inner| Expr::IsNotTrue(Box::new(inner))),
                ),
                Expr::Case(case) if case.expr.is_none() => done(self.case(case)?),
                part => Transformed::no(part),
            })
        })
    }

    fn case(&self, case: Case) -> Result<Transformed<Expr>> {
        let mut is_changed = false;
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (condition, result) in case.when_then_expr {
            let (condition, result) = (self.condition(*condition)?, self.value(*result)?);
            is_changed |= condition.transformed || result.transformed;
            branches.push((Box::new(condition.data), Box::new(result.data)));
        }
        let mut otherwise = None;
        if let Some(result) = case.else_expr {
            let result = self.value(*result)?;
            is_changed |= result.transformed;
            otherwise = Some(Box::new(result.data));
        }
        let case = Expr::Case(Case::new(None, branches, otherwise));
        Ok(Transformed::new(
            case,
            is_changed,
            TreeNodeRecursion::Continue,
        ))
    }

    fn value_of(&self, found: InSubquery) -> Result<Transformed<Expr>> {
        if has_unsupported_limit(&found)? {
            return Ok(Transformed::no(Expr::InSubquery(found)));
        }
        let Some(is_unknown) = self.is_unknown(&found)? else {
            return Ok(Transformed::no(Expr::InSubquery(found)));
        };
        let negated = found.negated;
        let value = when(is_found(found), lit(!negated))
            .when(is_unknown, unknown_value())
            .otherwise(lit(negated))?;
        Ok(Transformed::yes(value))
    }

    /// Returns whether a value that is not found is null or is compared with a null; `None` if it cannot be.
    fn is_unknown(&self, found: &InSubquery) -> Result<Option<Expr>> {
        let query = &found.subquery;
        let has_row = match found.expr.nullable(self.schema)? {
            true => Some((*found.expr).clone().is_null().and(any_row(query, false)?)),
            false => None,
        };
        let has_null = match query.subquery.schema().field(0).is_nullable() {
            true => Some(any_row(query, true)?),
            false => None,
        };
        Ok(match (has_row, has_null) {
            (Some(has_row), Some(has_null)) => Some(has_row.or(has_null)),
            (one, other) => one.or(other),
        })
    }
}

/// Whether DataFusion has a join of its own for `NOT IN` with this sub-query, which is right if it compares a column and there
/// are no nulls. It is wrong if the value is constant or is simplified to a constant, because the sub-query is then filtered by
/// it, so that its nulls are lost.
fn is_join_of_columns(found: &InSubquery) -> bool {
    let value = match &*found.expr {
        Expr::Cast(cast) => &*cast.expr,
        value => value,
    };
    matches!(value, Expr::Column(_)) && !is_correlated(&found.subquery)
}

/// The rewritten part is not rewritten again.
fn done(rewritten: Transformed<Expr>) -> Transformed<Expr> {
    Transformed::new(
        rewritten.data,
        rewritten.transformed,
        TreeNodeRecursion::Jump,
    )
}

fn is_found(found: InSubquery) -> Expr {
    Expr::InSubquery(InSubquery {
        negated: false,
        ..found
    })
}

/// Whether a condition on the rows of the sub-query cannot be added: the limit comes before it. DataFusion refuses the
/// sub-query.
fn has_unsupported_limit(found: &InSubquery) -> Result<bool> {
    Ok(is_correlated(&found.subquery) && has_limit(&found.subquery.subquery)?)
}

/// Returns whether the sub-query has a row, or a row that is null. All rows are counted: a `LIMIT` would have the scans of some
/// callers run one after another, and few sub-queries have nulls.
fn any_row(subquery: &Subquery, is_null: bool) -> Result<Expr> {
    let mut rows = LogicalPlanBuilder::new_from_arc(Arc::clone(&subquery.subquery));
    if is_null {
        rows = rows.filter(first_column(subquery).is_null())?;
    }
    match is_correlated(subquery) {
        true => Ok(exists(subquery, rows.build()?)),
        false => has_rows(rows),
    }
}

/// Returns whether a plan that does not depend on the row has rows.
fn has_rows(rows: LogicalPlanBuilder) -> Result<Expr> {
    let counted = rows
        .aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?
        .build()?;
    let counted = Expr::ScalarSubquery(Subquery {
        subquery: Arc::new(counted),
        outer_ref_columns: Vec::new(),
        spans: Default::default(),
    });
    Ok(counted.gt(lit(0_i64)))
}
