//! How many rows a statement asks for at most: `LIMIT` and `OFFSET` may be any number, and operators make room for it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, Limit, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;

/// The maximum of a `LIMIT` or an `OFFSET`: more rows than a statement can ever have. Beyond, the sum of both overflows.
const MAX_ROWS: i64 = 1 << 40;
/// The maximum number of rows of which the first are kept in memory while others stream by. For more, all rows are sorted,
/// which goes to the disk where it must.
const MAX_TOP_ROWS: usize = 100_000;

/// Puts numbers that are beyond all rows back to the maximum, which has the same rows.
pub(super) fn clamp(plan: LogicalPlan) -> Result<LogicalPlan> {
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

/// Lets no operator make room for more first rows than [`MAX_TOP_ROWS`]: a sort for more sorts all, and is cut after.
pub(super) fn without_large_tops(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
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
