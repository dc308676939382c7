//! A Delta table at one version as a table provider: plain Parquet files with their statistics, so that files, row
//! groups and pages that cannot match are not read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use chrono::Datelike;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{
    ColumnStatistics, Constraint, Constraints, DataFusionError, Result, ScalarValue, Statistics,
};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::path::Path;

use super::engine_table::{Contents, TableProperties};
use super::published::{PublishedFile, PublishedTable};
use crate::catalog::VisibleAssets;
use crate::engine::scan::page_cache::PageCacheReaderFactory;
use crate::engine::scan::scan_pruning::ScanPruning;
use crate::engine::scan::visible_filter::visible_filter;
use crate::lake::Store;
use crate::lake::delta::data_file::MAX_ROWS_PER_PAGE;
use crate::lake::delta::partition::{DataFile, Partition};
use crate::lake::delta::table_columns::current_schema;
use crate::model::{Resolution, day_to_date};
use crate::rollup_schema::ASSET_COLUMN;

/// The number of bytes at the end of a file that are fetched at once, enough for the footers of most files.
const FOOTER_HINT_BYTES: usize = 64 << 10;

/// The table of one resolution, at one version or before its first publication.
pub(in crate::engine) struct RollupTable {
    resolution: Resolution,
    source: Option<PublishedTable>,
    visible: Arc<VisibleAssets>,
    schema: TableSchema,
    /// The asset and the time.
    primary_key: Constraints,
}

impl fmt::Debug for RollupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RollupTable")
            .field(&self.resolution)
            .finish()
    }
}

impl RollupTable {
    /// Creates the table as it was published, or empty before the first publication, restricted to the assets in
    /// `visible`.
    pub fn new(
        resolution: Resolution,
        table: Option<&PublishedTable>,
        visible: Arc<VisibleAssets>,
    ) -> Self {
        let columns = match table {
            Some(table) => &table.schema,
            None => current_schema(),
        };
        let kind = match resolution {
            Resolution::Minute => DataType::Date32,
            Resolution::Hour => DataType::Utf8,
            Resolution::Day => DataType::Int32,
        };
        let partition = Arc::new(Field::new(resolution.partition_column(), kind, false));
        let schema = TableSchema::builder(columns.query_schema())
            .with_table_partition_cols(vec![partition])
            .build();
        Self {
            resolution,
            source: table.cloned(),
            visible,
            schema,
            primary_key: Constraints::new_unverified(vec![Constraint::PrimaryKey(vec![0, 1])]),
        }
    }

    fn partition_value(&self, partition: &Partition) -> Result<ScalarValue> {
        let (first, _) = partition.days().ok_or_else(|| {
            DataFusionError::Execution(format!(
                "{:?} is not a partition of {}",
                partition.as_str(),
                self.resolution.table()
            ))
        })?;
        Ok(match self.resolution {
            Resolution::Minute => ScalarValue::Date32(Some(first)),
            Resolution::Hour => ScalarValue::Utf8(Some(partition.as_str().to_owned())),
            Resolution::Day => ScalarValue::Int32(Some(day_to_date(first).year())),
        })
    }

    fn statistics(&self, file: &DataFile) -> Statistics {
        let fields = self.schema.file_schema().fields();
        let mut statistics = Statistics {
            // DataFusion answers `count(*)` from an exact number of rows, which would include hidden rows.
            num_rows: match (&*self.visible, file.rows) {
                (VisibleAssets::All, Some(rows)) => Precision::Exact(rows as usize),
                _ => Precision::Absent,
            },
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::default(); fields.len()],
        };
        // The bounds are inexact, because the Delta log rounds timestamps.
        let bounds =
            |column: &mut ColumnStatistics, min: Option<ScalarValue>, max: Option<ScalarValue>| {
                column.min_value = min.map_or(Precision::Absent, Precision::Inexact);
                column.max_value = max.map_or(Precision::Absent, Precision::Inexact);
            };
        let text =
            |text: &Option<String>| text.clone().map(|text| ScalarValue::Utf8View(Some(text)));
        let time = |time: Option<i64>| {
            time.map(|time| ScalarValue::TimestampMicrosecond(Some(time), Some("UTC".into())))
        };
        bounds(
            &mut statistics.column_statistics[0],
            text(&file.min_asset),
            text(&file.max_asset),
        );
        bounds(
            &mut statistics.column_statistics[1],
            time(file.min_time),
            time(file.max_time),
        );
        for (column, field) in statistics.column_statistics.iter_mut().zip(fields) {
            if !field.is_nullable() {
                column.null_count = Precision::Exact(0);
            }
        }
        statistics
    }
}

impl TableProperties for RollupTable {
    fn estimated_rows(&self, filters: &[Expr], limit: Option<usize>) -> f64 {
        self.estimate_rows(filters, limit) as f64
    }

    fn contents(&self) -> Contents {
        Contents::Immutable
    }
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.primary_key)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = match projection {
            Some(columns) => Arc::new(self.schema().project(columns)?),
            None => self.schema(),
        };
        let Some(source) = &self.source else {
            return Ok(Arc::new(EmptyExec::new(wanted)));
        };
        let filter = visible_filter(&self.visible, ASSET_COLUMN, 0, &self.schema())?;
        let files = self
            .pruned_files(source, filters)
            .map(|PublishedFile { file, .. }| {
                let path = source.store.absolute(&Path::from(file.path.as_str()));
                let statistics = Arc::new(self.statistics(file));
                let file = PartitionedFile::new(path, file.size)
                    .with_partition_values(vec![self.partition_value(&file.partition)?])
                    .with_statistics(statistics);
                Ok(file)
            })
            .collect::<Result<Vec<_>>>()?;
        let groups = match (files.is_empty(), &filter) {
            (false, _) => FileGroup::new(files).split_files(state.config().target_partitions()),
            (true, None) => return Ok(Arc::new(EmptyExec::new(wanted))),
            // That a table is known to be empty decides how it is joined, and others' rows decide whether it has files.
            (true, Some(_)) => vec![FileGroup::new(files)],
        };
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let readers = CachedParquetFileReaderFactory::new(source.store.root(), footers);
        let readers = PageCacheReaderFactory::new(
            readers,
            source.store.local_path().map(|_| PathBuf::from("/")),
        );
        // Visibility is checked first, and conditions are not reordered: see `tenant_filter_scan`.
        let options = state.table_options().parquet.clone();
        let mut parquet = parquet_source(self.schema.clone(), options, Arc::new(readers))
            .with_reorder_filters(filter.is_none());
        // Hidden rows must not count towards the limit.
        let limit = limit.filter(|_| filter.is_none());
        if let Some(filter) = filter {
            parquet = parquet.with_predicate(filter);
        }
        let config = FileScanConfigBuilder::new(store_url(&source.store)?, Arc::new(parquet))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Returns the source of scans of a table's files. It evaluates all conditions that are pushed down to it.
pub(in crate::engine) fn parquet_source(
    schema: TableSchema,
    options: TableParquetOptions,
    readers: Arc<dyn ParquetFileReaderFactory>,
) -> ParquetSource {
    ParquetSource::new(schema)
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(readers)
        .with_metadata_size_hint(FOOTER_HINT_BYTES)
        .with_pushdown_filters(true)
}

impl RollupTable {
    /// Returns the files that a query with these conditions has to read.
    fn pruned_files<'a>(
        &'a self,
        source: &'a PublishedTable,
        filters: &[Expr],
    ) -> impl Iterator<Item = &'a PublishedFile> + 'a {
        let wanted = ScanPruning::from_filters(filters, ASSET_COLUMN);
        source.files.iter().filter(move |file| {
            self.count_assets(file, &wanted) > 0 && overlaps_window(&wanted, &file.file)
        })
    }

    /// Returns how many visible assets that the query asks for are inside the file's bounds, or [`usize::MAX`] if that
    /// is unknown.
    fn count_assets(&self, file: &PublishedFile, wanted: &ScanPruning) -> usize {
        let Some((min, max)) = file.assets else {
            return usize::MAX;
        };
        match (&*self.visible, &wanted.assets) {
            (VisibleAssets::All, None) => usize::MAX,
            (VisibleAssets::Only(ids), None) => {
                let upto = ids.partition_point(|id| *id <= max);
                upto.saturating_sub(ids.partition_point(|id| *id < min))
            }
            (visible, Some(asked)) if min <= max => {
                let inside = asked.range(min..=max);
                inside.filter(|&&asset| visible.contains(asset)).count()
            }
            _ => 0,
        }
    }

    /// Estimates the number of rows that a query with these conditions reads.
    pub fn estimate_rows(&self, filters: &[Expr], limit: Option<usize>) -> u64 {
        let Some(source) = &self.source else {
            return 0;
        };
        if let (Some(limit), []) = (limit, filters) {
            return limit as u64;
        }
        let wanted = ScanPruning::from_filters(filters, ASSET_COLUMN);
        let rows = self.pruned_files(source, filters).map(|file| {
            let all = file.file.rows.unwrap_or(MAX_ROWS_PER_PAGE * 64);
            let assets = self.count_assets(file, &wanted) as u64;
            all.min(assets.saturating_mul(MAX_ROWS_PER_PAGE))
        });
        rows.fold(0, u64::saturating_add)
    }
}

/// Whether the file's time bounds overlap the window of the conditions.
fn overlaps_window(wanted: &ScanPruning, file: &DataFile) -> bool {
    file.min_time.is_none_or(|min| min < wanted.window.end)
        && file.max_time.is_none_or(|max| wanted.window.start <= max)
}

/// Returns the URL under which a lake's object store is registered with a session.
pub(in crate::engine) fn store_url(store: &Store) -> Result<ObjectStoreUrl> {
    let url = store.url();
    ObjectStoreUrl::parse(format!(
        "{}://{}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    ))
}
