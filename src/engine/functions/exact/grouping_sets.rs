//! Keys of `GROUPING SETS`, `ROLLUP` and `CUBE`. Within a set, a key is null, but DataFusion takes a key that a filter makes
//! constant for constant in the partial groups, too. It then ends groups too early, and returns some of them twice. It also takes
//! two keys that are the same value for equal in all sets, and does not sort by the second one.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::operators::Exact;

/// Whether the node groups by several sets of keys.
pub(super) fn has_sets(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Aggregate(step) if matches!(*step.group_expr, [Expr::GroupingSet(_), ..]))
}

/// Returns the node with keys of which no more is known than their type; other nodes unchanged.
pub(super) fn with_varying_keys(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !has_sets(&node) {
        return Ok(Transformed::no(node));
    }
    let LogicalPlan::Aggregate(step) = node else {
        return Ok(Transformed::no(node));
    };
    let keys: HashSet<Column> = step
        .group_expr
        .iter()
        .flat_map(|key| key.column_refs().into_iter().cloned())
        .collect();
    let columns = step.input.schema().iter().enumerate();
    let columns = columns.map(|(number, (qualifier, field))| {
        let column = Column::from((qualifier, field));
        let is_key = keys.contains(&column);
        let value = Expr::Column(column);
        match is_key {
            true => {
                let varying = Exact::Varying.call(Vec::new());
                let key = Exact::GroupingKey(field.data_type().clone(), number);
                let key = key.call(vec![value, varying]);
                key.alias_qualified(qualifier.cloned(), field.name())
            }
            false => value,
        }
    });
    let input = Projection::try_new(columns.collect(), Arc::clone(&step.input))?;
    let input = Arc::new(LogicalPlan::Projection(input));
    let step = Aggregate::try_new(input, step.group_expr, step.aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(step)))
}
