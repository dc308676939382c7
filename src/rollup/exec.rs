//! The DataFusion operator. It has one input partition for each raw file, in order of precedence (later files win), and
//! any number of output partitions with batches that are ready to be written.
//!
//! First all files are reduced to minutes, several files concurrently. Then conflicting minutes are decided from raw
//! readings. Then each output partition creates the batches of its parts. Memory is reserved in the session's memory
//! pool. When the pool is exhausted, the operator fails with `ResourcesExhausted`, and the caller tries again with a
//! smaller [`Cell`](super::cell::Cell).

mod file_tasks;
mod pass;
mod passes;

use std::fmt;
use std::sync::{Arc, Mutex};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::schema;
use crate::rollup_schema::RollupSchema;
use file_tasks::PassInput;
pub use pass::{FileOutcome, Outcome, Request};
use pass::{PreparedParts, Shared, lock};
use passes::prepare;

/// The operator that computes rollups of all three resolutions from raw readings.
#[derive(Debug)]
pub struct ResampleExec {
    input: Arc<dyn ExecutionPlan>,
    shared: Arc<Shared>,
    properties: Arc<PlanProperties>,
}

impl ResampleExec {
    /// Creates the operator over `input`, which returns [`READINGS`](schema::READINGS) and has one partition for each
    /// of `request.tasks`.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, request: Request) -> Result<Self> {
        if input.properties().output_partitioning().partition_count() != request.tasks.len().max(1)
        {
            return internal_err!("the resample operator needs one task for each input partition");
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema::output(&request.schema)),
            Partitioning::UnknownPartitioning(request.concurrency.max(1)),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let shared = Shared {
            request,
            outcome: Mutex::default(),
            seen_assets: Mutex::default(),
            ready: OnceCell::new(),
        };
        Ok(Self {
            input,
            shared: Arc::new(shared),
            properties: Arc::new(properties),
        })
    }

    /// Takes the result of the pass. Must be called after its streams have ended or failed.
    pub fn take_outcome(&self) -> Outcome {
        let mut outcome = std::mem::take(&mut *lock(&self.shared.outcome));
        let met = lock(&self.shared.seen_assets);
        outcome.median_asset = met
            .iter()
            .nth(met.len() / 2)
            .filter(|_| met.len() > 1)
            .copied();
        outcome
    }
}

impl DisplayAs for ResampleExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.shared.request;
        let cell = request.cell;
        write!(
            f,
            "ResampleExec: dates={}..{}, files={}, at_once={}",
            crate::model::day_to_date(cell.first),
            crate::model::day_to_date(cell.last),
            request.tasks.len(),
            request.concurrency
        )
    }
}

impl ExecutionPlan for ResampleExec {
    fn name(&self) -> &'static str {
        "ResampleExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::try_new(input, self.shared.request.clone())?)),
            _ => internal_err!("the resample operator has one input"),
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
        let shared = Arc::clone(&self.shared);
        let pass = PassInput {
            shared: Arc::clone(&self.shared),
            input: Arc::clone(&self.input),
            context,
        };
        let batches = async move {
            let ready = shared
                .ready
                .get_or_init(|| async { prepare(&pass).await.map(Arc::new).map_err(Arc::new) })
                .await;
            let ready = ready
                .as_ref()
                .map(Arc::clone)
                .map_err(|error| DataFusionError::Shared(Arc::clone(error)))?;
            let at_once = shared.request.concurrency.max(1);
            let mine: Vec<usize> = (partition..ready.parts.len()).step_by(at_once).collect();
            let schema = shared.request.schema.clone();
            Ok::<_, DataFusionError>(
                stream::iter(mine)
                    .flat_map(move |number| part_stream(Arc::clone(&ready), number, &schema)),
            )
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema::output(&self.shared.request.schema),
            stream::once(batches).try_flatten(),
        )))
    }
}

/// Returns the batches of one part. Each poll creates one batch, so that only one is in memory besides the minutes, and
/// it is still in the cache of the core that encodes it next.
fn part_stream(
    ready: Arc<PreparedParts>,
    number: usize,
    schema: &RollupSchema,
) -> impl Stream<Item = Result<arrow::array::RecordBatch>> + Send + use<> {
    let part = ready.parts[number];
    let mut batches = ready.assembled.batches(number as u32, part, schema);
    stream::iter(std::iter::from_fn(move || {
        batches
            .next(&ready.assembled)
            .map(|batch| batch.map_err(DataFusionError::from))
    }))
}
