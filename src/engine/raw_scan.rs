//! A leaf of a plan that reads raw files, in the order given.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter::batch_filter;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::lake::Store;
use crate::lake::raw::{RawFile, RawFormat, Want, read};
use crate::model::Window;
use crate::resample::schema::READINGS;

/// A file to read.
#[derive(Debug, Clone)]
pub struct ScanFile {
    /// The folder that it is in.
    pub folder: Store,
    /// The file.
    pub file: RawFile,
    /// Whether readings without a plausible time are wanted of it too.
    pub untimed: bool,
}

/// Reads raw files. A file at fault fails its own partition, with the [`FileFault`](crate::lake::raw::FileFault)
/// as the external error.
pub struct RawScanExec {
    format: Arc<RawFormat>,
    /// The files of each partition.
    partitions: Vec<Vec<ScanFile>>,
    window: Window,
    /// Which readings may be seen; all, if none. It is here so that nothing is worked out for others.
    visible: Option<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

/// Rows in a batch: its three columns stay in the second-level cache.
const BATCH_ROWS: usize = 16_384;

impl RawScanExec {
    /// Reads what `files` have inside `window`, or more: each file is a partition.
    pub fn new(format: Arc<RawFormat>, files: Vec<ScanFile>, window: Window) -> Self {
        let partitions = files.into_iter().map(|file| vec![file]).collect();
        Self::grouped(format, partitions, window)
    }

    /// Reads what the files have inside `window`, or more; those of a partition one after another.
    pub fn grouped(format: Arc<RawFormat>, partitions: Vec<Vec<ScanFile>>, window: Window) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&READINGS)),
            Partitioning::UnknownPartitioning(partitions.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            format,
            partitions,
            window,
            visible: None,
            properties: Arc::new(properties),
        }
    }

    /// Gives away only those readings for which `visible` is true.
    pub fn showing(self, visible: Option<Arc<dyn PhysicalExpr>>) -> Self {
        Self { visible, ..self }
    }
}

impl fmt::Debug for RawScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawScanExec")
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}

impl DisplayAs for RawScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: usize = self.partitions.iter().map(Vec::len).sum();
        write!(f, "RawScanExec: files={files}")?;
        match &self.visible {
            Some(visible) => write!(f, ", predicate={visible}"),
            None => Ok(()),
        }
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
        let files = self.partitions.get(partition).cloned().unwrap_or_default();
        let (format, window) = (Arc::clone(&self.format), self.window);
        let batches = stream::iter(files).then(move |scanned| {
            let format = Arc::clone(&format);
            let want = Want {
                window,
                untimed: scanned.untimed,
                batch_rows: BATCH_ROWS,
            };
            async move {
                let batches = read(&scanned.folder, &scanned.file, &format, &want)
                    .await
                    .map_err(|fault| DataFusionError::External(Box::new(fault)))?;
                Ok::<_, DataFusionError>(
                    batches
                        .map_err(|fault| DataFusionError::External(Box::new(fault)))
                        .boxed(),
                )
            }
        });
        let visible = self.visible.clone();
        let batches = batches.try_flatten().map(move |batch| match &visible {
            Some(visible) => batch_filter(&batch?, visible),
            None => batch,
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&READINGS),
            batches,
        )))
    }
}
