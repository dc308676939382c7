//! Plans of long queries whose operators check often whether the query was cancelled.
//!
//! DataFusion's operators loop for as long as their input has rows, and joins and windows longer: a single batch may
//! take them hours. So every operator checks at each output batch ([`CancellableExec`]), and operators that loop within a
//! batch get an expression, or a function, that checks at each step.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

use super::cancellable_window::cancellable_window;
use crate::engine::limits::cancellation;
use crate::engine::limits::cancellation::{CancelToken, check_memory};
use crate::engine::scan::metered_scan::{MeteredScan, RunContext};

/// Returns the plan with cancellation checks. Use it for plans that run once.
pub(in crate::engine) fn with_cancellation_checks(
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let checked = plan.transform_up(|step| {
        if step.is::<MeteredScan>() {
            return Ok(Transformed::no(step));
        }
        let step = match cancellable_join(&step)? {
            Some(join) => join,
            None => cancellable_window(&step)?.unwrap_or(step),
        };
        Ok(Transformed::yes(CancellableExec::wrap(step)))
    });
    checked.data()
}

/// Returns a join that checks at each batch of row pairs; `None` if the step is not a join that needs it.
fn cancellable_join(step: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = step.downcast_ref::<NestedLoopJoinExec>() {
        let filter = cancellable_filter(join.filter());
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter));
        return Ok(Some(Arc::new(join.build()?)));
    }
    let Some(join) = step.downcast_ref::<HashJoinExec>() else {
        return Ok(None);
    };
    // Other joins emit matches batch by batch, and are checked there. These may match the same rows again and again
    // without emitting anything.
    let is_silent = matches!(
        join.join_type(),
        JoinType::LeftSemi
            | JoinType::RightSemi
            | JoinType::LeftAnti
            | JoinType::RightAnti
            | JoinType::LeftMark
            | JoinType::RightMark
    );
    if join.filter().is_none() && !is_silent {
        return Ok(None);
    }
    let filter = cancellable_filter(join.filter());
    let join = join.builder().with_filter(Some(filter));
    join.build_exec().map(Some)
}

/// Returns the filter with a check, or, if there is none, a filter with a check that every row passes.
fn cancellable_filter(filter: Option<&JoinFilter>) -> JoinFilter {
    match filter {
        Some(filter) => JoinFilter::new(
            Arc::new(CancellableExpr(Arc::clone(filter.expression()))),
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        ),
        None => JoinFilter::new(
            Arc::new(CancellableExpr(lit(true))),
            Vec::new(),
            Arc::new(Schema::empty()),
        ),
    }
}

/// An operator whose output fails at the next batch after the query is cancelled.
#[derive(Debug)]
struct CancellableExec {
    inner: Arc<dyn ExecutionPlan>,
}

impl CancellableExec {
    fn wrap(inner: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { inner })
    }
}

impl DisplayAs for CancellableExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancellableExec")
    }
}

impl ExecutionPlan for CancellableExec {
    fn name(&self) -> &'static str {
        "CancellableExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.inner]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Self::wrap(inner)),
            _ => internal_err!("CancellableExec has exactly one child"),
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
        let batches = self.inner.execute(partition, context)?;
        Ok(match run {
            Some(run) => Box::pin(CancellableStream {
                token: run.token.clone(),
                batches,
            }),
            None => batches,
        })
    }
}

/// A stream that checks its token at each poll, and makes it the current one of the thread.
struct CancellableStream {
    token: CancelToken,
    batches: SendableRecordBatchStream,
}

impl Stream for CancellableStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { token, batches } = &mut *self;
        if let Err(cancelled) = token.check().and_then(|()| check_memory()) {
            return Poll::Ready(Some(Err(cancelled)));
        }
        token.scope(|| batches.poll_next_unpin(context))
    }
}

impl RecordBatchStream for CancellableStream {
    fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }
}

/// An expression that fails if the query that the thread runs was cancelled.
#[derive(Debug, Eq)]
struct CancellableExpr(Arc<dyn PhysicalExpr>);

impl PartialEq for CancellableExpr {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for CancellableExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for CancellableExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for CancellableExpr {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.0.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        cancellation::check()?;
        self.0.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.0]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(inner), true) => Ok(Arc::new(Self(inner))),
            _ => internal_err!("a cancellable expression has exactly one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}
