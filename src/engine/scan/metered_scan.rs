//! A scan whose bytes are counted for the run of the query, so that each run of a plan that is reused is counted
//! separately. The scan ends when the query is cancelled, and yields the thread when its time slice is over.
//!
//! For callers who see everything, the bytes read from files are counted; for others, `tenant_scan` counts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

use crate::engine::limits::cancellation::{CancelToken, check_memory, is_slice_over};
use crate::lake::storage::scanned_bytes::ScannedBytes;

/// The state that the operators of one run of a plan share; an extension of the session's configuration.
#[derive(Debug)]
pub(in crate::engine) struct RunContext {
    /// The counter of the bytes that the run reads.
    pub scanned: ScannedBytes,
    /// Cancels the run.
    pub token: CancelToken,
}

/// A scan that counts for the [`RunContext`].
#[derive(Debug)]
pub(in crate::engine) struct MeteredScan {
    scan: Arc<dyn ExecutionPlan>,
    is_metered: bool,
}

impl MeteredScan {
    /// Wraps `scan` and counts the bytes that it reads.
    pub fn new(scan: Arc<dyn ExecutionPlan>) -> Self {
        Self {
            scan,
            is_metered: true,
        }
    }

    /// Wraps `scan` for cancellation and time slices only, without counting.
    pub fn unmetered(scan: Arc<dyn ExecutionPlan>) -> Self {
        Self {
            scan,
            is_metered: false,
        }
    }
}

impl DisplayAs for MeteredScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeteredScan")
    }
}

impl ExecutionPlan for MeteredScan {
    fn name(&self) -> &'static str {
        "MeteredScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.scan]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(scan), true) => Ok(Arc::new(Self {
                scan,
                is_metered: self.is_metered,
            })),
            _ => internal_err!("MeteredScan has exactly one child"),
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
        let batches = self.scan.execute(partition, context)?;
        Ok(match run {
            Some(run) => Box::pin(MeteredScanStream {
                run,
                batches,
                is_metered: self.is_metered,
            }),
            None => batches,
        })
    }
}

/// A stream that makes the run's counter the current one of the thread at each poll.
struct MeteredScanStream {
    run: Arc<RunContext>,
    batches: SendableRecordBatchStream,
    is_metered: bool,
}

impl Stream for MeteredScanStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self {
            run,
            batches,
            is_metered: counts,
        } = &mut *self;
        if let Err(cancelled) = run.token.check().and_then(|()| check_memory()) {
            return Poll::Ready(Some(Err(cancelled)));
        }
        if is_slice_over() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let poll = || batches.poll_next_unpin(context);
        match *counts {
            true => run.scanned.count_reads_during(|| run.token.scope(poll)),
            false => run.token.scope(poll),
        }
    }
}

impl RecordBatchStream for MeteredScanStream {
    fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }
}
