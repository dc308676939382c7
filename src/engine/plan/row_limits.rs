//! Limits the numbers in `LIMIT` and `OFFSET`, which may be of any size, while operators allocate memory for them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, Limit, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;

/// The maximum of a `LIMIT` or an `OFFSET`, more rows than a statement can have. The sum of larger numbers may
/// overflow.
const MAX_ROWS: i64 = 1 << 40;
/// The maximum number of first rows that an operator keeps in memory while the others stream by. Beyond it, all rows
/// are sorted, which can spill to disk.
const MAX_TOP_ROWS: usize = 100_000;

/// Reduces larger numbers to the maximum, which does not change the result.
pub(in crate::engine) fn clamp(plan: LogicalPlan) -> Result<LogicalPlan> {
    let clamped = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Limit(Limit { skip, fetch, input })
            if is_beyond(&skip) || is_beyond(&fetch) =>
        {
            let clamp = |rows: Option<Box<Expr>>| match is_beyond(&rows) {
                true => Some(Box::new(Expr::Literal(
                    ScalarValue::Int64(Some(MAX_ROWS)),
                    None,
                ))),
                false => rows,
            };
            Ok(Transformed::yes(LogicalPlan::Limit(Limit {
                skip: clamp(skip),
                fetch: clamp(fetch),
                input,
            })))
        }
        node => Ok(Transformed::no(node)),
    });
    clamped.map(|clamped| clamped.data)
}

fn is_beyond(rows: &Option<Box<Expr>>) -> bool {
    match rows.as_deref() {
        Some(Expr::Literal(ScalarValue::Int64(Some(rows)), _)) => *rows > MAX_ROWS,
        Some(Expr::Literal(ScalarValue::UInt64(Some(rows)), _)) => {
            i64::try_from(*rows).is_ok_and(|rows| rows > MAX_ROWS) || i64::try_from(*rows).is_err()
        }
        _ => false,
    }
}

/// Replaces operators that keep more than [`MAX_TOP_ROWS`] first rows in memory: a full sort with a limit above it
/// instead of a top-k sort, and an aggregate without a limit.
pub(in crate::engine) fn without_large_top_k(
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let bounded = plan.transform_up(|step| {
        if let Some(sort) = step.downcast_ref::<SortExec>()
            && let Some(rows) = sort.fetch().filter(|rows| *rows > MAX_TOP_ROWS)
        {
            let sorted: Arc<dyn ExecutionPlan> = Arc::new(sort.with_fetch(None));
            let cut: Arc<dyn ExecutionPlan> = match sort.preserve_partitioning() {
                true => Arc::new(LocalLimitExec::new(sorted, rows)),
                false => Arc::new(GlobalLimitExec::new(sorted, 0, Some(rows))),
            };
            return Ok(Transformed::yes(cut));
        }
        if let Some(aggregate) = step.downcast_ref::<AggregateExec>()
            && let Some(options) = aggregate.limit_options()
            && options.limit() > MAX_TOP_ROWS
        {
            let all = aggregate.with_new_limit_options(None);
            return Ok(Transformed::yes(Arc::new(all)));
        }
        Ok(Transformed::no(step))
    });
    bounded.map(|bounded| bounded.data)
}
