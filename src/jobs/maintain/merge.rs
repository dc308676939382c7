//! Makes one sorted file of several: a merge of what is sorted already, written as every file of the tables is.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use super::super::resample::{JobError, table_failed};
use crate::engine::batch_context;
use crate::lake::failpoint;
use crate::lake::table::{DataFile, FileWriter, Table, WrittenFile, written_schema};
use crate::model::{DateSet, day_of};

/// Rows that all sources together have in memory decoded, about; each has a row group of its file encoded, besides.
const DECODED_ROWS: usize = 1 << 19;
/// Rows that are written at a time.
const BATCH_ROWS: usize = 16_384;

/// A file to read from.
pub(super) struct Source<'a> {
    pub table: &'a Table,
    pub file: DataFile,
    /// Dates whose rows are left out.
    pub without: DateSet,
}

/// Writes the rows of all sources, in order; none if there are none.
pub(super) async fn merge(
    sources: &[Source<'_>],
    mut writer: FileWriter,
    on_rows: &(dyn Fn(u64) + Sync),
) -> Result<Option<WrittenFile>, JobError> {
    let rows = (DECODED_ROWS / sources.len().max(1)).clamp(1_024, 65_536);
    let mut streams = Vec::new();
    for source in sources {
        streams.push(open(source, rows).await?);
    }
    let mut merged = match streams.len() {
        0 | 1 => match streams.pop() {
            Some(only) => only,
            None => return Ok(None),
        },
        _ => in_order(streams)?,
    };
    let table = sources.first().map(|source| source.table.resolution());
    let failed = table_failed(table.unwrap_or(crate::model::Resolution::Minute));
    while let Some(batch) = merged.try_next().await? {
        writer.write(&batch).await.map_err(&failed)?;
        on_rows(batch.num_rows() as u64);
    }
    failpoint::reach("before-data-file");
    let written = writer.finish().await.map_err(&failed)?;
    failpoint::reach("after-data-file");
    Ok(written)
}

async fn open(source: &Source<'_>, rows: usize) -> Result<SendableRecordBatchStream, JobError> {
    let opened = source.table.read_file_by(&source.file, rows).await;
    let opened = opened.map_err(table_failed(source.table.resolution()))?;
    let without = source.without.clone();
    let batches = opened
        .map_err(|error| DataFusionError::External(Box::new(error)))
        .map(move |batch| match without.is_empty() {
            true => batch,
            false => Ok(kept(&batch?, &without)?),
        });
    Ok(Box::pin(RecordBatchStreamAdapter::new(
        written_schema(),
        batches,
    )))
}

fn kept(batch: &RecordBatch, without: &DateSet) -> Result<RecordBatch, DataFusionError> {
    let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
    let kept = BooleanArray::from_unary(times, |time| !without.contains(day_of(time)));
    Ok(filter_record_batch(batch, &kept)?)
}

/// One stream of several, by asset and time.
fn in_order(
    streams: Vec<SendableRecordBatchStream>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let schema = written_schema();
    let by = ["asset_id", "timestamp"].map(|name| {
        let column = Column::new_with_schema(name, &schema)?;
        Ok::<_, DataFusionError>(PhysicalSortExpr::new_default(Arc::new(column)))
    });
    let [asset, time] = by;
    let order = LexOrdering::new([asset?, time?]);
    let order = order.ok_or_else(|| DataFusionError::Internal("no order".to_owned()))?;
    let context = batch_context(None, 1)?;
    let memory = MemoryConsumer::new("merge").register(context.memory_pool());
    StreamingMergeBuilder::new()
        .with_streams(streams)
        .with_schema(schema)
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(BATCH_ROWS)
        .with_reservation(memory)
        .build()
}
