//! Sub-queries in `GROUP BY`, `ORDER BY`, arguments of aggregates and window functions, and `ON` of outer joins. They are
//! computed as columns before, because DataFusion makes joins of those in `WHERE` and in a `SELECT` list only.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Aggregate, Join, Projection, Sort, Window};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};

use super::parts::{contains, is_correlated, mentions, subquery_of};

/// The beginning of the names of computed columns.
const PLACED: &str = "__subquery_value_";

/// Moves the sub-queries of the node to its input, if DataFusion does not run them in such a node.
pub(super) fn place(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Aggregate(_) | LogicalPlan::Sort(_)
            if mentions(&node, is_placed)? && !mentions(&node, is_grouping_set)? =>
        {
            before_node(node, is_placed).map(Transformed::yes)
        }
        // DataFusion does not sort by a scalar sub-query here, and then misses the order.
        LogicalPlan::Window(_) if mentions(&node, is_subquery)? => {
            before_node(node, is_subquery).map(Transformed::yes)
        }
        LogicalPlan::Join(join) if has_placed_filter(&join)? => before_join(join),
        node => Ok(Transformed::no(node)),
    }
}

fn is_grouping_set(part: &Expr) -> bool {
    matches!(part, Expr::GroupingSet(_))
}

fn is_subquery(part: &Expr) -> bool {
    subquery_of(part).is_some()
}

/// Whether DataFusion makes a join of the sub-query. It computes other scalar sub-queries in any place.
fn is_placed(part: &Expr) -> bool {
    match part {
        Expr::ScalarSubquery(subquery) => is_correlated(subquery),
        part => is_subquery(part),
    }
}

/// Whether the `ON` has a sub-query that DataFusion does not run there. It moves conditions of an inner join to `WHERE`, but does
/// not accept scalar sub-queries that depend on the row.
fn has_placed_filter(join: &Join) -> Result<bool> {
    let is_outer = matches!(
        join.join_type,
        JoinType::Left | JoinType::Right | JoinType::Full
    );
    join.filter.as_ref().map_or(Ok(false), |filter| {
        contains(filter, |part| {
            is_placed(part) && (is_outer || matches!(part, Expr::ScalarSubquery(_)))
        })
    })
}

/// The sub-queries that become columns of an input.
struct Placed {
    subqueries: Vec<Expr>,
    /// The number of the first one.
    first: usize,
}

impl Placed {
    /// Returns the column of the sub-query.
    fn column(&mut self, part: Expr) -> Expr {
        let known = self.subqueries.iter().position(|known| *known == part);
        let at = known.unwrap_or_else(|| {
            self.subqueries.push(part);
            self.subqueries.len() - 1
        });
        Expr::Column(Column::new_unqualified(self.name(at)))
    }

    fn name(&self, at: usize) -> String {
        format!("{PLACED}{}", self.first + at)
    }

    /// Returns the input with the columns.
    fn add_to(self, input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
        if self.subqueries.is_empty() {
            return Ok(input);
        }
        let mut columns = all_columns(input.schema());
        let names: Vec<String> = (0..self.subqueries.len()).map(|at| self.name(at)).collect();
        let values = self.subqueries.into_iter().zip(names);
        columns.extend(values.map(|(value, name)| value.alias(name)));
        let step = Projection::try_new(columns, input)?;
        Ok(Arc::new(LogicalPlan::Projection(step)))
    }
}

fn all_columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

fn replace_parts(
    expression: Expr,
    is_replaced: fn(&Expr) -> bool,
    mut replace: impl FnMut(Expr) -> Expr,
) -> Result<Transformed<Expr>> {
    expression.transform_down(|part| {
        Ok(match is_replaced(&part) {
            true => Transformed::new(replace(part), true, TreeNodeRecursion::Jump),
            false => Transformed::no(part),
        })
    })
}

fn before_node(node: LogicalPlan, is_moved: fn(&Expr) -> bool) -> Result<LogicalPlan> {
    let original = Arc::clone(node.schema());
    let names = NamePreserver::new(&node);
    let is_sort = matches!(node, LogicalPlan::Sort(_));
    let mut placed = Placed {
        subqueries: Vec::new(),
        first: 0,
    };
    let node = node.map_expressions(|expression| {
        let name = names.save(&expression);
        let replaced = replace_parts(expression, is_moved, |part| placed.column(part))?;
        Ok(match is_sort {
            true => replaced,
            false => replaced.update_data(|expression| name.restore(expression)),
        })
    })?;
    let node = match node.data {
        LogicalPlan::Aggregate(step) => {
            let input = placed.add_to(step.input)?;
            let step = Aggregate::try_new(input, step.group_expr, step.aggr_expr)?;
            return Ok(LogicalPlan::Aggregate(step));
        }
        LogicalPlan::Window(step) => {
            let input = placed.add_to(step.input)?;
            LogicalPlan::Window(Window::try_new(step.window_expr, input)?)
        }
        LogicalPlan::Sort(step) => LogicalPlan::Sort(Sort {
            input: placed.add_to(step.input)?,
            ..step
        }),
        node => return Ok(node),
    };
    without_placed(node, &original)
}

/// Returns the plan without the computed columns.
fn without_placed(node: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let step = Projection::try_new(all_columns(schema), Arc::new(node))?;
    Ok(LogicalPlan::Projection(step))
}

/// Moves the sub-queries in `ON` to the inputs whose columns they use. One that uses columns of both stays, and is refused
/// later.
fn before_join(join: Join) -> Result<Transformed<LogicalPlan>> {
    let Join {
        left,
        right,
        filter,
        schema,
        ..
    } = &join;
    let (mut on_left, mut on_right) = (Vec::new(), Vec::new());
    let mut stays = false;
    let Some(filter) = filter.clone() else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    filter.apply(|part| {
        if !is_placed(part) {
            return Ok(TreeNodeRecursion::Continue);
        }
        if uses_only(part, left.schema())? {
            on_left.push(part.clone());
        } else if uses_only(part, right.schema())? {
            on_right.push(part.clone());
        } else {
            stays = true;
        }
        Ok(TreeNodeRecursion::Jump)
    })?;
    if stays {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let mut left_placed = Placed {
        subqueries: Vec::new(),
        first: 0,
    };
    let mut right_placed = Placed {
        subqueries: Vec::new(),
        first: on_left.len(),
    };
    let filter = replace_parts(filter, is_placed, |part| match on_left.contains(&part) {
        true => left_placed.column(part),
        false => right_placed.column(part),
    })?;
    let original = Arc::clone(schema);
    let join = LogicalPlan::Join(Join {
        left: left_placed.add_to(Arc::clone(left))?,
        right: right_placed.add_to(Arc::clone(right))?,
        filter: Some(filter.data),
        ..join
    });
    without_placed(join.recompute_schema()?, &original).map(Transformed::yes)
}

/// Whether the sub-query uses no other columns than these.
fn uses_only(part: &Expr, schema: &DFSchema) -> Result<bool> {
    let mut is_only = part
        .column_refs()
        .into_iter()
        .all(|column| schema.has_column(column));
    let outer = subquery_of(part).map_or(&[][..], |found| &found.outer_ref_columns);
    for outer in outer {
        outer.apply(|part| {
            if let Expr::OuterReferenceColumn(_, column) = part {
                is_only &= schema.has_column(column);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(is_only)
}
