//! A leaf of a plan that reads raw files: one partition for each file, in the order given.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::lake::Store;
use crate::lake::raw::{RawFile, RawFormat, Want, read};
use crate::model::Window;
use crate::resample::schema::READINGS;

/// Reads raw files. A file at fault fails its own partition, with the [`FileFault`](crate::lake::raw::FileFault)
/// as the external error.
pub struct RawScanExec {
    raw: Store,
    format: Arc<RawFormat>,
    /// Each file, and whether its readings without a plausible time are wanted too.
    files: Vec<(RawFile, bool)>,
    window: Window,
    properties: Arc<PlanProperties>,
}

/// Rows in a batch: its three columns stay in the second-level cache.
const BATCH_ROWS: usize = 16_384;

impl RawScanExec {
    /// Reads what `files` have inside `window`, or more.
    pub fn new(
        raw: Store,
        format: Arc<RawFormat>,
        files: Vec<(RawFile, bool)>,
        window: Window,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&READINGS)),
            Partitioning::UnknownPartitioning(files.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            raw,
            format,
            files,
            window,
            properties: Arc::new(properties),
        }
    }
}

impl fmt::Debug for RawScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawScanExec")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl DisplayAs for RawScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawScanExec: files={}", self.files.len())
    }
}

impl ExecutionPlan for RawScanExec {
    fn name(&self) -> &'static str {
        "RawScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("a scan has no children")
        }
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&READINGS) as SchemaRef;
        let Some((file, untimed)) = self.files.get(partition).cloned() else {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(
                schema,
                stream::empty(),
            )));
        };
        let (raw, format) = (self.raw.clone(), Arc::clone(&self.format));
        let want = Want {
            window: self.window,
            untimed,
            batch_rows: BATCH_ROWS,
        };
        let batches = async move {
            let batches = read(&raw, &file, &format, &want)
                .await
                .map_err(|fault| DataFusionError::External(Box::new(fault)))?;
            Ok::<_, DataFusionError>(
                batches
                    .map_err(|fault| DataFusionError::External(Box::new(fault)))
                    .boxed(),
            )
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            stream::once(batches).try_flatten(),
        )))
    }
}
