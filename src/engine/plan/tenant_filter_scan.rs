//! Scans for callers who see some assets only. No expression of the caller is evaluated on rows that the caller may not
//! see: whether `1 / (value - 42) > 0` fails would reveal their values. Only conditions on assets and times prune files
//! and row groups: with other conditions, the values of hidden rows would decide what is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr,
    LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{
    LexOrdering, PhysicalExpr, PhysicalSortExpr, conjunction, split_conjunction,
};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::engine::comparisons::is_comparison;
use crate::engine::scan::metered_scan::MeteredScan;
use crate::engine::scan::raw_scan::RawScanExec;
use crate::engine::scan::tenant_scan::{Sequence, TenantScan};
use crate::engine::scan::visible_filter::IsVisible;
use crate::engine::tables::rollup_table::parquet_source;
use crate::rollup_schema::{ASSET_COLUMN, TIME_COLUMN};

/// The bytes that an asset's id, a UUID, counts in `bytes_scanned`.
const ASSET_BYTES: u64 = 16;
/// The bytes that a timestamp or a number counts.
const VALUE_BYTES: u64 = 8;
/// The bytes that a raw reading counts; all of its columns are read.
const READING_BYTES: u64 = ASSET_BYTES + 2 * VALUE_BYTES;

/// Returns the plan with all scans counted, and with restricted scans rewritten according to the rules of this module.
/// With `sequential`, the plan reads in an order that depends on the caller's rows alone; see
/// [`SequentialUnions`](super::sequential_unions::SequentialUnions).
pub(in crate::engine) fn rewrite_scans(
    plan: Arc<dyn ExecutionPlan>,
    sequential: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let rewritten = plan.transform_up(|step| {
        if let Some(scan) = step.downcast_ref::<DataSourceExec>() {
            let source = scan.downcast_to_file_source::<ParquetSource>();
            let tenants = match source {
                Some((config, parquet)) => tenant_scan(config, parquet, sequential)?,
                None => None,
            };
            return Ok(Transformed::yes(match tenants {
                Some(scan) => scan,
                None => Arc::new(MeteredScan::new(step)),
            }));
        }
        if let Some(scan) = step.downcast_ref::<RawScanExec>() {
            return Ok(Transformed::yes(
                match (scan.is_unrestricted(), sequential) {
                    (true, _) => Arc::new(MeteredScan::new(step)) as Arc<dyn ExecutionPlan>,
                    (false, false) => Arc::new(TenantScan::new(step, READING_BYTES, None)),
                    (false, true) => {
                        let scan = Arc::new(scan.with_file_partitions());
                        let files = scan.properties().partitioning.partition_count();
                        let sequence = Sequence {
                            runs: (0..files).map(|file| file..file + 1).collect(),
                            order: None,
                        };
                        let sequence = Some(Arc::new(sequence));
                        Arc::new(TenantScan::new(scan, READING_BYTES, sequence))
                    }
                },
            ));
        }
        Ok(match sequential {
            true => replace_early_end(step),
            false => Transformed::no(step),
        })
    });
    rewritten.data()
}

/// Replaces a step that may end early by one that reads the same amount in each run.
fn replace_early_end(step: Arc<dyn ExecutionPlan>) -> Transformed<Arc<dyn ExecutionPlan>> {
    // `CoalescePartitionsExec` polls its input once more after it has all rows, and batches that are ready by then are
    // counted; `GlobalLimitExec` does not.
    let fetch = step.downcast_ref::<CoalescePartitionsExec>();
    let fetch = fetch.and_then(ExecutionPlan::fetch);
    match (fetch, step.children().as_slice()) {
        (Some(fetch), [input]) if input.output_partitioning().partition_count() == 1 => {
            let limit = GlobalLimitExec::new(Arc::clone(input), 0, Some(fetch));
            Transformed::yes(Arc::new(limit))
        }
        _ => Transformed::no(step),
    }
}

/// Returns a scan of visible rows with the remaining expressions evaluated above it; `None` if the scan is not
/// restricted.
fn tenant_scan(
    config: &FileScanConfig,
    parquet: &ParquetSource,
    sequential: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(conditions) = parquet.filter() else {
        return Ok(None);
    };
    let table = parquet.table_schema().table_schema();
    let parts = split_conjunction(&conditions).into_iter().cloned();
    let (mut pushed_down, mut remaining): (Vec<_>, Vec<_>) =
        parts.partition(|condition| is_prunable(condition, parquet));
    if !pushed_down.iter().any(|part| part.is::<IsVisible>()) {
        return Ok(None);
    }
    pushed_down.sort_by_key(evaluation_order);
    // The dynamic filter of a join or a sort only saves work, so it can be dropped.
    remaining.retain(|condition| !condition.is::<DynamicFilterPhysicalExpr>());
    let projection = parquet.projection();
    let projected = projection.into_iter().flat_map(|exprs| exprs.expr_iter());
    let mut columns = BTreeSet::new();
    for expr in projected.chain(remaining.iter().cloned()) {
        columns.extend(column_indices(&expr, table)?);
    }
    if sequential {
        columns.extend([table.index_of(ASSET_COLUMN)?, table.index_of(TIME_COLUMN)?]);
    }
    let mut used = columns.clone();
    for condition in &pushed_down {
        used.extend(column_indices(condition, table)?);
    }
    let stored = parquet.table_schema().file_schema().fields().len();
    let widths = used.iter().map(|&column| match column {
        _ if column >= stored => 0,
        _ if table.field(column).name() == ASSET_COLUMN => ASSET_BYTES,
        _ => VALUE_BYTES,
    });
    let row_bytes = widths.sum();
    let predicate = conjunction(pushed_down);
    if remaining.is_empty() && !sequential {
        let source = Arc::new(parquet.with_predicate(predicate));
        let config = FileScanConfigBuilder::from(config.clone()).with_source(source);
        let scan = DataSourceExec::from_data_source(config.build());
        return Ok(Some(Arc::new(TenantScan::new(scan, row_bytes, None))));
    }
    let Some(readers) = parquet.parquet_file_reader_factory().cloned() else {
        return internal_err!("a scan of a table has no file reader factory");
    };
    let options = parquet.table_parquet_options().clone();
    let source = parquet_source(parquet.table_schema().clone(), options, readers)
        .with_reorder_filters(false)
        .with_predicate(predicate);
    let (groups, sequence) = match sequential {
        true => {
            let (groups, sequence) = order_files(&config.file_groups, &columns, table)?;
            (groups, Some(Arc::new(sequence)))
        }
        false => (config.file_groups.clone(), None),
    };
    let scan = FileScanConfigBuilder::new(config.object_store_url.clone(), Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(Some(columns.into_iter().collect()))?
        .with_preserve_order(sequential)
        .build();
    let scan = DataSourceExec::from_data_source(scan);
    let scan = Arc::new(TenantScan::new(scan, row_bytes, sequence));
    apply_above_scan(scan, remaining, parquet, config.limit).map(Some)
}

/// Adds the expressions above a scan of plain columns: the filter `conditions`, the projection of `parquet`, and
/// `limit`.
fn apply_above_scan(
    scan: Arc<dyn ExecutionPlan>,
    conditions: Vec<Arc<dyn PhysicalExpr>>,
    parquet: &ParquetSource,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let columns = scan.schema();
    let mut plan = scan;
    if !conditions.is_empty() {
        let conditions = reassign_expr_columns(conjunction(conditions), &columns)?;
        plan = Arc::new(FilterExec::try_new(conditions, plan)?);
    }
    if let Some(exprs) = parquet.projection() {
        let exprs = exprs.iter().map(|projected| {
            let expr = reassign_expr_columns(Arc::clone(&projected.expr), &columns)?;
            Ok(ProjectionExpr::new(expr, projected.alias.clone()))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        plan = Arc::new(ProjectionExec::try_new(exprs, plan)?);
    }
    Ok(match limit {
        Some(limit) => Arc::new(LocalLimitExec::new(plan, limit)),
        None => plan,
    })
}

/// Returns the files, each in its own group, and the order in which to read them: by date, and within a date by asset
/// and time. A date may have any number of files, because rows of all organisations fill them.
fn order_files(
    groups: &[FileGroup],
    columns: &BTreeSet<usize>,
    table: &Schema,
) -> Result<(Vec<FileGroup>, Sequence)> {
    let files = groups.iter().flat_map(FileGroup::iter);
    let mut files: Vec<PartitionedFile> = files.cloned().collect();
    files.sort_by(|one, other| {
        let dates = one.partition_values.partial_cmp(&other.partition_values);
        dates.unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut runs = Vec::new();
    let mut first = 0;
    for date in files.chunk_by(|one, other| one.partition_values == other.partition_values) {
        runs.push(first..first + date.len());
        first += date.len();
    }
    let key = [table.index_of(ASSET_COLUMN)?, table.index_of(TIME_COLUMN)?].map(|column| {
        let position = columns.range(..column).count();
        let column = Column::new(table.field(column).name(), position);
        PhysicalSortExpr::new(Arc::new(column), SortOptions::new(false, false))
    });
    let sequence = Sequence {
        runs,
        order: LexOrdering::new(key),
    };
    let groups = files.into_iter().map(|file| FileGroup::new(vec![file]));
    Ok((groups.collect(), sequence))
}

/// Returns the indices of the table's columns that an expression uses.
fn column_indices(expr: &Arc<dyn PhysicalExpr>, table: &Schema) -> Result<Vec<usize>> {
    let columns = collect_columns(expr).into_iter();
    columns
        .map(|column| Ok(table.index_of(column.name())?))
        .collect()
}

/// Whether a condition uses assets, times and dates only, compares them with values that are the same for all rows, and
/// cannot fail. Such conditions may be evaluated on the statistics of files.
fn is_prunable(condition: &Arc<dyn PhysicalExpr>, parquet: &ParquetSource) -> bool {
    let dates = parquet.table_schema().table_partition_cols();
    let is_prunable_column = |name: &str| {
        name == ASSET_COLUMN || name == TIME_COLUMN || dates.iter().any(|date| date.name() == name)
    };
    let mut all = true;
    let visited = condition.apply(|part| {
        all &= match part.downcast_ref::<BinaryExpr>() {
            Some(binary) => {
                matches!(binary.op(), Operator::And | Operator::Or) || is_comparison(*binary.op())
            }
            None => {
                part.downcast_ref::<Column>()
                    .is_some_and(|column| is_prunable_column(column.name()))
                    || part
                        .downcast_ref::<CastExpr>()
                        .is_some_and(|cast| cast.cast_type().is_string())
                    || part.is::<IsVisible>()
                    || part.is::<Literal>()
                    || part.is::<ScalarSubqueryExpr>()
                    || part.is::<DynamicFilterPhysicalExpr>()
                    || part.is::<InListExpr>()
                    || part.is::<LikeExpr>()
                    || part.is::<NotExpr>()
                    || part.is::<IsNullExpr>()
                    || part.is::<IsNotNullExpr>()
            }
        };
        Ok(match all {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    all && visited.is_ok()
}

/// Returns the position of a condition in the order of evaluation. Conditions on assets come first: rows of an asset
/// are adjacent, and these conditions discard most rows. Conditions on other columns come last, when few rows are left.
fn evaluation_order(condition: &Arc<dyn PhysicalExpr>) -> u8 {
    const VISIBLE: u8 = 2;
    if condition.is::<IsVisible>() {
        return VISIBLE;
    }
    match compared_column(condition) {
        Some((ASSET_COLUMN, true)) => 0,
        Some((ASSET_COLUMN, false)) => 1,
        Some((TIME_COLUMN, _)) => VISIBLE + 1,
        Some(_) => VISIBLE + 2,
        None => VISIBLE + 3,
    }
}

/// Returns the column that a condition compares with constants of its type, which cannot fail, and whether it compares
/// for equality.
fn compared_column(condition: &Arc<dyn PhysicalExpr>) -> Option<(&str, bool)> {
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
    let is_equality = match comparison.op() {
        Operator::Eq => true,
        op if is_comparison(*op) => false,
        _ => return None,
    };
    Some((column.name(), is_equality))
}
