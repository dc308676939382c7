//! A Delta table at one version as a table of the engine: plain Parquet files with their statistics, so that
//! files, row groups and pages that cannot match are never read.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chrono::Datelike;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::path::Path;

use crate::lake::Store;
use crate::lake::table::{DataFile, Partition, Table};
use crate::model::{Resolution, day_to_date};

/// Bytes at the end of a file that are fetched at once; holds the footers of most files.
const FOOTER_HINT: usize = 64 << 10;

/// The table of one resolution, at one version or before its first.
pub(super) struct RollupTable {
    resolution: Resolution,
    source: Option<(Store, Vec<DataFile>)>,
    schema: TableSchema,
}

impl fmt::Debug for RollupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RollupTable")
            .field(&self.resolution)
            .finish()
    }
}

impl RollupTable {
    /// The table at the version that is open; empty where there is none yet.
    pub fn new(resolution: Resolution, table: Option<&Table>) -> Self {
        let double = |name: &str, nullable| Field::new(name, DataType::Float64, nullable);
        let mut fields = vec![
            Field::new("asset_id", DataType::Utf8View, false),
            Field::new(
                "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            ),
            double("value", false),
            Field::new("count", DataType::Int64, false),
        ];
        fields.extend(["min", "max", "first", "last"].map(|name| double(name, false)));
        fields.push(double("stddev", true));
        let kind = match resolution {
            Resolution::Minute => DataType::Date32,
            Resolution::Hour => DataType::Utf8,
            Resolution::Day => DataType::Int32,
        };
        let partition = Arc::new(Field::new(resolution.partition_column(), kind, false));
        let schema = TableSchema::builder(Arc::new(Schema::new(fields)))
            .with_table_partition_cols(vec![partition])
            .build();
        Self {
            resolution,
            source: table.map(|table| (table.store().clone(), table.files())),
            schema,
        }
    }

    fn partition_value(&self, partition: &Partition) -> Result<ScalarValue> {
        let (first, _) = partition.days().ok_or_else(|| {
            DataFusionError::Execution(format!(
                "{:?} is not a partition of {}",
                partition.text(),
                self.resolution.table()
            ))
        })?;
        Ok(match self.resolution {
            Resolution::Minute => ScalarValue::Date32(Some(first)),
            Resolution::Hour => ScalarValue::Utf8(Some(partition.text().to_owned())),
            Resolution::Day => ScalarValue::Int32(Some(day_to_date(first).year())),
        })
    }

    fn statistics(&self, file: &DataFile) -> Statistics {
        let columns = self.schema.file_schema().fields().len();
        let mut statistics = Statistics {
            num_rows: file
                .rows
                .map_or(Precision::Absent, |rows| Precision::Exact(rows as usize)),
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::default(); columns],
        };
        // Bounds, not values that occur: the log rounds times.
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
        for column in &mut statistics.column_statistics[..columns - 1] {
            column.null_count = Precision::Exact(0);
        }
        statistics
    }
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
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
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.source.as_ref().filter(|(_, files)| !files.is_empty());
        let Some((store, files)) = files else {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        };
        let files = files
            .iter()
            .map(|file| {
                let path = store.absolute(&Path::from(file.path.as_str()));
                let statistics = Arc::new(self.statistics(file));
                let file = PartitionedFile::new(path, file.size)
                    .with_partition_values(vec![self.partition_value(&file.partition)?])
                    .with_statistics(statistics);
                Ok(file)
            })
            .collect::<Result<Vec<_>>>()?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_metadata_size_hint(FOOTER_HINT)
            .with_pushdown_filters(true)
            .with_reorder_filters(true);
        let config = FileScanConfigBuilder::new(store_url(store)?, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// The name under which a lake's object store is registered with a session.
pub(super) fn store_url(store: &Store) -> Result<ObjectStoreUrl> {
    let url = store.url();
    ObjectStoreUrl::parse(format!(
        "{}://{}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    ))
}
