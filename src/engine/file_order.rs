//! Rows that are in order already are not sorted: files of ours have them by asset and time, so that those of one asset
//! follow each other from file to file, and those of many are merged as they are read. A large answer in order begins at
//! once then, and takes the memory of a few batches a file, not that of all its rows.
//!
//! DataFusion would have to know the order while it shares files out among cores: files that overlap cannot follow each
//! other in order, and a file for each core is right only where an order is wanted. So this is looked at in the finished
//! plan, where a sort stands on nothing but filters and columns of a scan.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, split_conjunction};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

const ASSET: &str = "asset_id";
const TIME: &str = "timestamp";
/// So many files are merged at most: each is open for as long as the merge takes.
const MOST_MERGED: usize = 32;

/// The order of a file of ours, in the columns of its table: asset and time.
pub fn by_asset_and_time() -> Option<LexOrdering> {
    LexOrdering::new([(ASSET, 0), (TIME, 1)].map(ascending))
}

fn ascending((name, index): (&str, usize)) -> PhysicalSortExpr {
    PhysicalSortExpr::new_default(Arc::new(Column::new(name, index))).asc()
}

/// The plan without the sorts that files make unnecessary. `merges`: whether several files are worth reading at once.
pub(super) fn in_file_order(
    plan: Arc<dyn ExecutionPlan>,
    merges: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let ordered = plan.transform_down(|step| {
        let sort = step.downcast_ref::<SortPreservingMergeExec>().map_or_else(
            || step.downcast_ref::<SortExec>(),
            |merge| merge.input().downcast_ref::<SortExec>(),
        );
        // One whose parts stay apart is of use only to the merge above.
        let sort = sort.filter(|sort| {
            sort.preserve_partitioning() == step.is::<SortPreservingMergeExec>()
                || sort.input().output_partitioning().partition_count() == 1
        });
        let Some(sort) = sort else {
            return Ok(Transformed::no(step));
        };
        let Some(input) = ordered_input(sort.input(), sort.expr(), merges)? else {
            return Ok(Transformed::no(step));
        };
        let fetch = step.fetch();
        if fetch.is_none() && input.output_partitioning().partition_count() == 1 {
            return Ok(Transformed::yes(input));
        }
        let merge = SortPreservingMergeExec::new(sort.expr().clone(), input);
        Ok(Transformed::yes(Arc::new(merge.with_fetch(fetch)) as _))
    });
    ordered.data()
}

/// `input` with its files read so that their rows come in this order, if there is such a way.
fn ordered_input(
    input: &Arc<dyn ExecutionPlan>,
    order: &LexOrdering,
    merges: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = scan_below(input) else {
        return Ok(None);
    };
    for arranged in [after_each_other(scan), beside_each_other(scan, merges)] {
        let Some(arranged) = arranged else { continue };
        let arranged: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(arranged);
        let input = above(input, arranged)?;
        if input
            .equivalence_properties()
            .ordering_satisfy(order.clone())?
        {
            return Ok(Some(input));
        }
    }
    Ok(None)
}

/// What is scanned below steps that keep rows in order, where all files are in order.
fn scan_below(step: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    if let Some(source) = step.downcast_ref::<DataSourceExec>() {
        let config = source.data_source().downcast_ref::<FileScanConfig>()?;
        let mut files = config.file_groups.iter().flat_map(FileGroup::iter);
        let is_ordered = files.all(|file| file.ordering.is_some());
        return is_ordered.then_some(config);
    }
    match step.children()[..] {
        [child] if keeps_order(step) => scan_below(child),
        _ => None,
    }
}

fn keeps_order(step: &Arc<dyn ExecutionPlan>) -> bool {
    step.is::<FilterExec>() || step.is::<ProjectionExec>() || step.is::<CooperativeExec>()
}

/// The steps above a scan, above another one.
fn above(
    step: &Arc<dyn ExecutionPlan>,
    scan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    match step.children()[..] {
        [child] => replace_children_if_necessary(Arc::clone(step), vec![above(child, scan)?]),
        _ => Ok(scan),
    }
}

/// Files one after the other in time, if only one asset is read: its rows are in order of time then. That the times of files
/// do not overlap is checked by who asks for the order.
fn after_each_other(scan: &FileScanConfig) -> Option<FileScanConfig> {
    if !is_of_one_asset(scan) {
        return None;
    }
    let mut files = files(scan);
    files.sort_by(|one, other| {
        let order = begins(one).partial_cmp(&begins(other));
        order.unwrap_or(std::cmp::Ordering::Equal)
    });
    let by_time = LexOrdering::new([ascending((TIME, 1))])?;
    Some(rearranged(scan, vec![FileGroup::new(files)], by_time))
}

/// No row of the file is before.
fn begins(file: &PartitionedFile) -> Option<&ScalarValue> {
    let times = file.statistics.as_ref()?.column_statistics.get(1)?;
    times.min_value.get_value()
}

/// Whether rows of one asset only pass the scan's own filter.
fn is_of_one_asset(scan: &FileScanConfig) -> bool {
    let is_asset = |side: &Arc<dyn PhysicalExpr>| {
        side.downcast_ref::<Column>()
            .is_some_and(|column| column.name() == ASSET)
    };
    let is_literal = |side: &Arc<dyn PhysicalExpr>| side.is::<Literal>();
    let filter = scan.file_source().filter();
    filter.is_some_and(|filter| {
        let parts = split_conjunction(&filter).into_iter();
        parts
            .filter_map(|part| part.downcast_ref::<BinaryExpr>())
            .filter(|part| *part.op() == Operator::Eq)
            .any(|equal| {
                let (left, right) = (equal.left(), equal.right());
                is_asset(left) && is_literal(right) || is_literal(left) && is_asset(right)
            })
    })
}

/// Each file by itself, to be merged.
fn beside_each_other(scan: &FileScanConfig, merges: bool) -> Option<FileScanConfig> {
    let files = files(scan);
    if files.len() > if merges { MOST_MERGED } else { 1 } {
        return None;
    }
    let groups = files.into_iter().map(|file| FileGroup::new(vec![file]));
    Some(rearranged(scan, groups.collect(), by_asset_and_time()?))
}

/// The files that are scanned, each whole: for several cores, the optimiser may have cut them.
fn files(scan: &FileScanConfig) -> Vec<PartitionedFile> {
    let mut known = HashSet::new();
    let parts = scan.file_groups.iter().flat_map(FileGroup::iter);
    let files = parts.filter(|part| known.insert(part.path()));
    let whole = |file: &PartitionedFile| PartitionedFile {
        range: None,
        ..file.clone()
    };
    files.map(whole).collect()
}

fn rearranged(scan: &FileScanConfig, groups: Vec<FileGroup>, order: LexOrdering) -> FileScanConfig {
    FileScanConfigBuilder::from(scan.clone())
        .with_file_groups(groups)
        .with_output_ordering(vec![order])
        .build()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion::common::stats::Precision;
    use datafusion::common::{ColumnStatistics, Statistics};
    use datafusion::datasource::object_store::ObjectStoreUrl;
    use datafusion::datasource::physical_plan::ParquetSource;
    use datafusion::datasource::source::DataSource;
    use datafusion::datasource::table_schema::TableSchema;
    use datafusion::physical_expr::expressions::binary;
    use datafusion::physical_plan::displayable;

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn time(micros: i64) -> ScalarValue {
        ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
    }

    /// A file of all assets' day.
    fn file(day: i64, is_ordered: bool) -> PartitionedFile {
        named(&format!("{day}.parquet"), day, is_ordered)
    }

    fn named(name: &str, day: i64, is_ordered: bool) -> PartitionedFile {
        let bounds = |min, max| ColumnStatistics {
            min_value: Precision::Inexact(min),
            max_value: Precision::Inexact(max),
            null_count: Precision::Exact(0),
            ..ColumnStatistics::default()
        };
        let text = |text: &str| ScalarValue::Utf8View(Some(text.to_owned()));
        let statistics = Statistics {
            num_rows: Precision::Exact(100),
            total_byte_size: Precision::Absent,
            column_statistics: vec![
                bounds(text("a"), text("z")),
                bounds(time(day * DAY), time(day * DAY + DAY - 60_000_000)),
            ],
        };
        PartitionedFile::new(name, 1_000)
            .with_statistics(Arc::new(statistics))
            .with_ordering(is_ordered.then(by_asset_and_time).flatten())
    }

    /// The steps of a query for these columns in order, by two cores.
    fn steps(files: &[PartitionedFile], of_one: bool, by: &[&str], merges: bool) -> String {
        let zone = Some("UTC".into());
        let schema = Arc::new(Schema::new(vec![
            Field::new(ASSET, DataType::Utf8View, false),
            Field::new(
                TIME,
                DataType::Timestamp(TimeUnit::Microsecond, zone),
                false,
            ),
        ]));
        let mut source = ParquetSource::new(TableSchema::from(Arc::clone(&schema)));
        if of_one {
            let asset = Arc::new(Column::new(ASSET, 0));
            let value = Arc::new(Literal::new(ScalarValue::Utf8View(Some("b".to_owned()))));
            source = source.with_predicate(binary(asset, Operator::Eq, value, &schema).unwrap());
        }
        let groups = FileGroup::new(files.to_vec()).split_files(2);
        let url = ObjectStoreUrl::local_filesystem();
        let config = FileScanConfigBuilder::new(url, Arc::new(source)).with_file_groups(groups);
        let config = config.build();
        // As the optimiser does: each core has as many bytes as the other, and a file between them is cut.
        let cut = config.repartitioned(2, 0, None).unwrap();
        let scan: Arc<dyn ExecutionPlan> = match cut {
            Some(cut) => Arc::new(DataSourceExec::new(cut)),
            None => DataSourceExec::from_data_source(config),
        };
        let by = by.iter().map(|name| match *name {
            ASSET => ascending((ASSET, 0)),
            _ => ascending((TIME, 1)),
        });
        let by = LexOrdering::new(by).unwrap();
        let sort = SortExec::new(by.clone(), scan).with_preserve_partitioning(true);
        let plan = Arc::new(SortPreservingMergeExec::new(by, Arc::new(sort)));
        let plan = in_file_order(plan, merges).unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        let names = text
            .lines()
            .filter_map(|line| line.trim().split([':', ' ']).next());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_in_order_is_not_sorted() {
        let files: Vec<_> = [2, 0, 1].map(|day| file(day, true)).into();
        let (sorted, merged) = (
            "SortPreservingMergeExec SortExec DataSourceExec",
            "SortPreservingMergeExec DataSourceExec",
        );
        for by in [vec![ASSET, TIME], vec![ASSET]] {
            assert_eq!(steps(&files, false, &by, true), merged);
            // Several files are not worth opening at once for a few rows, and one is.
            assert_eq!(steps(&files, false, &by, false), sorted);
            assert_eq!(steps(&files[..1], false, &by, false), "DataSourceExec");
        }
        // Many assets' times are not in order.
        for files in [&files[..], &files[..1]] {
            assert_eq!(steps(files, false, &[TIME], true), sorted);
            assert_eq!(steps(files, false, &[TIME, ASSET], true), sorted);
        }
        // Those of one are, file after file.
        for by in [vec![TIME], vec![ASSET, TIME], vec![TIME, ASSET]] {
            assert_eq!(steps(&files, true, &by, false), "DataSourceExec");
        }
        // Unless files overlap in time: two of a day.
        let mut twice = files.clone();
        twice.push(named("another.parquet", 1, true));
        assert_eq!(steps(&twice, true, &[TIME], false), sorted);
        // One that another program wrote.
        let mut foreign = files;
        foreign.push(file(3, false));
        assert_eq!(steps(&foreign, false, &[ASSET, TIME], true), sorted);
        assert_eq!(steps(&foreign, true, &[TIME], true), sorted);
        // Each of too many would have to be open.
        let many: Vec<_> = (0..=MOST_MERGED as i64)
            .map(|day| file(day, true))
            .collect();
        assert_eq!(steps(&many, false, &[ASSET, TIME], true), sorted);
    }
}
