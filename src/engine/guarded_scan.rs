//! The order in which a scan looks at its conditions. Nothing that a caller made up is worked out for rows that the caller
//! may not see: whether `1 / (value - 42) > 0` fails would tell of them. Only what cannot fail may go before, where it saves
//! work.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;

use super::rollup_table::{ASSET, TIME};
use super::visible_filter::IsVisible;

/// The plan with the conditions of all scans in that order; it stays so only where scans do not reorder them themselves.
pub(super) fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let guarded = plan.transform_up(|step| {
        let Some(scan) = step.downcast_ref::<DataSourceExec>() else {
            return Ok(Transformed::no(step));
        };
        let source = scan.downcast_to_file_source::<ParquetSource>();
        let Some((config, parquet)) = source else {
            return Ok(Transformed::no(step));
        };
        let Some(ordered) = parquet.filter().as_ref().and_then(in_order) else {
            return Ok(Transformed::no(step));
        };
        let source = Arc::new(parquet.with_predicate(ordered));
        let config = FileScanConfigBuilder::from(config.clone()).with_source(source);
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config.build());
        Ok(Transformed::yes(scan))
    });
    guarded.data()
}

/// The conditions in order; none if all may be seen, and any order is good.
fn in_order(conditions: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let mut parts: Vec<_> = split_conjunction(conditions).into_iter().cloned().collect();
    if !parts.iter().any(|part| part.is::<IsVisible>()) {
        return None;
    }
    parts.sort_by_key(turn);
    Some(conjunction(parts))
}

/// When it is a condition's turn. Assets come first, in runs, and decide most; what needs other columns comes when there are
/// few rows left.
fn turn(condition: &Arc<dyn PhysicalExpr>) -> u8 {
    const VISIBLE: u8 = 2;
    if condition.is::<IsVisible>() {
        return VISIBLE;
    }
    match compared(condition) {
        Some((ASSET, true)) => 0,
        Some((ASSET, false)) => 1,
        Some((TIME, _)) => VISIBLE + 1,
        Some(_) => VISIBLE + 2,
        None => VISIBLE + 3,
    }
}

/// The column that a condition compares with constants of its type, which cannot fail, and whether with single ones.
fn compared(condition: &Arc<dyn PhysicalExpr>) -> Option<(&str, bool)> {
    let is_constant = |side: &Arc<dyn PhysicalExpr>| side.is::<Literal>();
    if let Some(list) = condition.downcast_ref::<InListExpr>() {
        let column = list.expr().downcast_ref::<Column>()?;
        let is_plain = !list.negated() && list.list().iter().all(is_constant);
        return is_plain.then_some((column.name(), true));
    }
    let comparison = condition.downcast_ref::<BinaryExpr>()?;
    let column = match (
        comparison.left().downcast_ref::<Column>(),
        comparison.right().downcast_ref::<Column>(),
    ) {
        (Some(column), None) if is_constant(comparison.right()) => column,
        (None, Some(column)) if is_constant(comparison.left()) => column,
        _ => return None,
    };
    let is_single = match comparison.op() {
        Operator::Eq => true,
        Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => false,
        _ => return None,
    };
    Some((column.name(), is_single))
}
