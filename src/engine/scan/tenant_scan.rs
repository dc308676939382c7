//! The scan of a caller who sees some assets only, and the bytes that it counts.
//!
//! `bytes_scanned` of a request must not reveal rows that its caller does not see. So it does not count the bytes read
//! from files, which contain rows of other organisations, but the caller's own rows: those that the statement's
//! conditions on assets and times select, before any other condition, times the width of the columns that the scan
//! emits.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::even_batches::EvenBatches;
use super::metered_scan::{MeteredScan, RunContext};

/// Rows in a batch that is emitted in sequence.
const BATCH_ROWS: usize = 8_192;

/// The order in which the partitions of a scan are read one after another, so that neither the order of the caller's
/// rows nor their batches depend on hidden rows.
#[derive(Debug)]
pub(in crate::engine) struct Sequence {
    /// Ranges of partitions of the scan whose rows belong together, such as those of one date.
    pub runs: Vec<Range<usize>>,
    /// The sort order of the rows of each partition; the partitions of a run are merged by it.
    pub order: Option<LexOrdering>,
}

/// Counts the rows of a scan for the [`RunContext`].
///
/// The scan evaluates conditions on assets and times; operators above it evaluate all others.
#[derive(Debug)]
pub(in crate::engine) struct TenantScan {
    scan: Arc<dyn ExecutionPlan>,
    row_bytes: u64,
    sequence: Option<Arc<Sequence>>,
    properties: Arc<PlanProperties>,
}

impl TenantScan {
    /// Wraps `scan` and counts each row as `row_bytes`. With a `sequence`, it has one partition, in that order.
    pub fn new(
        scan: Arc<dyn ExecutionPlan>,
        row_bytes: u64,
        sequence: Option<Arc<Sequence>>,
    ) -> Self {
        Self::build(Arc::new(MeteredScan::unmetered(scan)), row_bytes, sequence)
    }

    fn build(
        scan: Arc<dyn ExecutionPlan>,
        row_bytes: u64,
        sequence: Option<Arc<Sequence>>,
    ) -> Self {
        let properties = match &sequence {
            None => Arc::clone(scan.properties()),
            Some(_) => {
                let of_scan = scan.properties();
                Arc::new(PlanProperties::new(
                    EquivalenceProperties::new(scan.schema()),
                    Partitioning::UnknownPartitioning(1),
                    of_scan.emission_type,
                    of_scan.boundedness,
                ))
            }
        };
        Self {
            scan,
            row_bytes,
            sequence,
            properties,
        }
    }

    /// Returns the rows of a run, merged if it has several partitions.
    fn execute_run(
        scan: &Arc<dyn ExecutionPlan>,
        partitions: Range<usize>,
        order: Option<&LexOrdering>,
        context: &Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let streams = partitions.map(|partition| scan.execute(partition, Arc::clone(context)));
        let mut streams = streams.collect::<Result<Vec<_>>>()?;
        match (streams.len(), order, streams.pop()) {
            (1, _, Some(only)) => Ok(only),
            (_, Some(order), Some(last)) => {
                streams.push(last);
                let reservation = MemoryConsumer::new("merge of files");
                StreamingMergeBuilder::new()
                    .with_streams(streams)
                    .with_schema(scan.schema())
                    .with_expressions(order)
                    .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
                    .with_batch_size(BATCH_ROWS)
                    .with_reservation(reservation.register(context.memory_pool()))
                    .build()
            }
            _ => internal_err!("a run of a scan has no order, or no partition"),
        }
    }

    fn execute_in_sequence(
        &self,
        sequence: &Arc<Sequence>,
        context: &Arc<TaskContext>,
    ) -> SendableRecordBatchStream {
        let schema = self.scan.schema();
        let (scan, context) = (Arc::clone(&self.scan), Arc::clone(context));
        let of_run = Arc::clone(sequence);
        let columns = Arc::clone(&schema);
        let runs = stream::iter(0..sequence.runs.len()).map(move |index| {
            let partitions = of_run.runs.get(index).cloned().unwrap_or_default();
            let rows = Self::execute_run(&scan, partitions, of_run.order.as_ref(), &context)?;
            Ok::<_, DataFusionError>(EvenBatches::new(rows, Arc::clone(&columns), BATCH_ROWS))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, runs.try_flatten()))
    }
}

impl DisplayAs for TenantScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantScan")
    }
}

impl ExecutionPlan for TenantScan {
    fn name(&self) -> &'static str {
        "TenantScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.scan]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(scan), true) => Ok(Arc::new(Self::build(
                scan,
                self.row_bytes,
                self.sequence.clone(),
            ))),
            _ => internal_err!("TenantScan needs exactly one input"),
        }
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let run = context.session_config().get_extension::<RunContext>();
        let batches = match &self.sequence {
            Some(sequence) => self.execute_in_sequence(sequence, &context),
            None => self.scan.execute(partition, context)?,
        };
        let Some(run) = run else {
            return Ok(batches);
        };
        let row_bytes = self.row_bytes;
        let batches = batches.inspect_ok(move |batch| {
            run.scanned
                .add(row_bytes.saturating_mul(batch.num_rows() as u64));
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.scan.schema(),
            batches,
        )))
    }
}
