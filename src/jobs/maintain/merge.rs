//! Merges several sorted files into one sorted file, with the layout of all files of the tables.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use crate::engine::batch_context;
use crate::jobs::error::{JobError, table_error};
use crate::lake::delta::data_file::{FileWriter, WrittenFile};
use crate::lake::delta::error::TableError;
use crate::lake::delta::partition::{DataFile, Partition};
use crate::lake::delta::table::Table;
use crate::lake::delta::table_columns::{conform_rows, merged_file_schema};
use crate::lake::storage::failpoint;
use crate::model::{DateSet, day_of};
use crate::rollup_schema::{ASSET_COLUMN, TIME_COLUMN};

/// The approximate number of decoded rows in memory, for all sources together. Each source also holds an encoded row
/// group of its file.
const DECODED_ROWS: usize = 1 << 19;
/// The number of rows in a batch.
const BATCH_ROWS: usize = 16_384;

/// A file whose rows are merged.
pub(super) struct MergeSource<'a> {
    pub table: &'a Table,
    pub file: DataFile,
    /// The dates whose rows are left out.
    pub without: DateSet,
}

/// The destination of merged rows.
pub(super) struct MergeTarget<'a> {
    /// The table that the rows are written to.
    pub table: &'a Table,
    pub partition: Partition,
    /// The approximate maximum size of a file in bytes. Further rows go into the next file.
    pub file_size: u64,
    /// The callback for the number of rows that were written.
    pub on_rows: &'a (dyn Fn(u64) + Send + Sync),
}

/// Writes the rows of all sources in order, with all of their columns. Adds the files to `written` as they are finished, so that the caller can
/// delete them after an error.
pub(super) async fn merge(
    sources: &[MergeSource<'_>],
    target: &MergeTarget<'_>,
    written: &mut Vec<WrittenFile>,
) -> Result<(), JobError> {
    let rows = (DECODED_ROWS / sources.len().max(1)).clamp(1_024, 65_536);
    let mut streams = Vec::new();
    for source in sources {
        streams.push(open_source(source, rows).await?);
    }
    let schemas: Vec<SchemaRef> = streams.iter().map(|stream| stream.schema()).collect();
    let schema = merged_file_schema(target.table.schema(), &schemas);
    let conformed = streams.into_iter().map(|stream| conform(stream, &schema));
    let mut streams: Vec<_> = conformed.collect();
    let mut merged = match streams.len() {
        0 | 1 => match streams.pop() {
            Some(only) => only,
            None => return Ok(()),
        },
        _ => merge_sorted(streams, &schema)?,
    };
    let failed = table_error(target.table.resolution());
    let max_rows = estimate_rows(target.file_size, sources);
    let (mut writer, mut rows) = (None, 0);
    while let Some(batch) = merged.try_next().await? {
        let file = match &mut writer {
            Some(file) => file,
            none => {
                let partition = target.partition.clone();
                let schema = Arc::clone(&schema);
                none.insert(target.table.writer_with_schema(partition, schema))
            }
        };
        file.write(&batch).await.map_err(&failed)?;
        rows += batch.num_rows() as u64;
        (target.on_rows)(batch.num_rows() as u64);
        if rows >= max_rows
            && let Some(full) = writer.take()
        {
            written.extend(finish(full, &failed).await?);
            rows = 0;
        }
    }
    if let Some(last) = writer {
        written.extend(finish(last, &failed).await?);
    }
    Ok(())
}

async fn finish(
    writer: FileWriter,
    failed: impl Fn(TableError) -> JobError,
) -> Result<Option<WrittenFile>, JobError> {
    failpoint::reach("before-data-file");
    let written = writer.finish().await.map_err(failed)?;
    failpoint::reach("after-data-file");
    Ok(written)
}

/// Estimates the number of rows of these sources that take `bytes` bytes.
fn estimate_rows(bytes: u64, sources: &[MergeSource<'_>]) -> u64 {
    let files = || sources.iter().map(|source| &source.file);
    let rows: u64 = files().map(|file| file.rows.unwrap_or(0)).sum();
    let size: u64 = files().map(|file| file.size).sum();
    let share = bytes as f64 / size.max(1) as f64;
    match share >= 1.0 {
        // The sizes of the sources show that they fit into one file, so the result is not split.
        true => u64::MAX,
        false => ((rows as f64 * share) as u64).max(BATCH_ROWS as u64),
    }
}

async fn open_source(
    source: &MergeSource<'_>,
    rows: usize,
) -> Result<SendableRecordBatchStream, JobError> {
    let opened = source.table.read_whole_file_in_batches(&source.file, rows);
    let opened = opened
        .await
        .map_err(table_error(source.table.resolution()))?;
    let without = source.without.clone();
    let batches = opened
        .batches
        .map_err(|error| DataFusionError::External(Box::new(error)))
        .map(move |batch| match without.is_empty() {
            true => batch,
            false => Ok(without_dates(&batch?, &without)?),
        });
    Ok(Box::pin(RecordBatchStreamAdapter::new(
        opened.schema,
        batches,
    )))
}

/// Returns the stream with the columns of `schema`.
fn conform(stream: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    let target = Arc::clone(schema);
    let batches = stream.map(move |batch| Ok(conform_rows(&batch?, &target)?));
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

fn without_dates(batch: &RecordBatch, without: &DateSet) -> Result<RecordBatch, DataFusionError> {
    let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
    let kept = BooleanArray::from_unary(times, |time| !without.contains(day_of(time)));
    Ok(filter_record_batch(batch, &kept)?)
}

/// Merges sorted streams into one, by asset and time.
fn merge_sorted(
    streams: Vec<SendableRecordBatchStream>,
    schema: &SchemaRef,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let by = [ASSET_COLUMN, TIME_COLUMN].map(|name| {
        let column = Column::new_with_schema(name, schema)?;
        Ok::<_, DataFusionError>(PhysicalSortExpr::new_default(Arc::new(column)))
    });
    let [asset, time] = by;
    let order = LexOrdering::new([asset?, time?]);
    let order =
        order.ok_or_else(|| DataFusionError::Internal("the merge has no sort order".to_owned()))?;
    let context = batch_context(None, 1)?;
    let memory = MemoryConsumer::new("merge").register(context.memory_pool());
    StreamingMergeBuilder::new()
        .with_streams(streams)
        .with_schema(Arc::clone(schema))
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(BATCH_ROWS)
        .with_reservation(memory)
        .build()
}
