//! A leaf of a physical plan that reads raw files, in the given order.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
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
use crate::lake::raw::{RawFile, RawFileError, RawFormat, ReadRequest, read};
use crate::model::Window;
use crate::rollup::schema::READINGS;

/// A file to read.
#[derive(Debug, Clone)]
pub struct ScanFile {
    /// The folder that contains the file.
    pub folder: Store,
    /// The file.
    pub file: RawFile,
    /// Whether to read readings without a plausible time, too.
    pub untimed: bool,
}

/// A callback for files that turn out to be unreadable.
pub type OnUnreadable = Arc<dyn Fn(&RawFile) + Send + Sync>;

/// Reads raw files. A faulty file fails its own partition, with the [`RawFileError`](crate::lake::raw::RawFileError) as
/// the external error.
pub struct RawScanExec {
    format: Arc<RawFormat>,
    /// The files of each partition.
    partitions: Vec<Vec<ScanFile>>,
    window: Window,
    /// The predicate of visible readings; `None` if all are visible. It is applied here so that no other expression is
    /// evaluated on hidden readings.
    visible: Option<Arc<dyn PhysicalExpr>>,
    /// Whether visible readings outside the window are removed.
    clips_to_window: bool,
    on_unreadable: Option<OnUnreadable>,
    properties: Arc<PlanProperties>,
}

/// Rows in a batch: its three columns fit in the second-level cache.
const BATCH_ROWS: usize = 16_384;
/// The index of the time column in [`READINGS`].
const TIME_INDEX: usize = 1;
/// The index of the value column in [`READINGS`].
const VALUE_INDEX: usize = 2;

impl RawScanExec {
    /// Reads the readings of `files` inside `window`, and possibly more. Each file is a partition.
    pub fn new(format: Arc<RawFormat>, files: Vec<ScanFile>, window: Window) -> Self {
        let partitions = files.into_iter().map(|file| vec![file]).collect();
        Self::with_partitions(format, partitions, window)
    }

    /// Reads the readings inside `window`, and possibly more. Files of a partition are read one after another.
    pub fn with_partitions(
        format: Arc<RawFormat>,
        partitions: Vec<Vec<ScanFile>>,
        window: Window,
    ) -> Self {
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
            clips_to_window: false,
            on_unreadable: None,
            properties: Arc::new(properties),
        }
    }

    /// Emits only readings for which `visible` is true, and with `cuts` only those inside the window.
    pub fn with_visible(self, visible: Option<Arc<dyn PhysicalExpr>>, cuts: bool) -> Self {
        Self {
            visible,
            clips_to_window: cuts,
            ..self
        }
    }

    /// Calls `on_unreadable` for each damaged file.
    pub fn with_on_unreadable(self, on_unreadable: OnUnreadable) -> Self {
        Self {
            on_unreadable: Some(on_unreadable),
            ..self
        }
    }

    /// Whether all readings are emitted.
    pub(in crate::engine) fn is_unrestricted(&self) -> bool {
        self.visible.is_none()
    }

    /// Returns the same scan with each file as a partition, in the order of their paths.
    pub(in crate::engine) fn with_file_partitions(&self) -> Self {
        let mut files: Vec<_> = self.partitions.iter().flatten().cloned().collect();
        files.sort_by(|one, other| one.file.path.cmp(&other.file.path));
        Self {
            on_unreadable: self.on_unreadable.clone(),
            ..Self::new(Arc::clone(&self.format), files, self.window)
                .with_visible(self.visible.clone(), self.clips_to_window)
        }
    }
}

/// Returns the readings of a batch for which `visible` is true and whose time is inside `window`, if there is one.
fn filter_visible(
    batch: &RecordBatch,
    visible: &Arc<dyn PhysicalExpr>,
    window: Option<Window>,
) -> Result<RecordBatch> {
    let batch = batch_filter(batch, visible)?;
    let Some(window) = window.filter(|_| batch.num_rows() > 0) else {
        return Ok(batch);
    };
    let times = batch.column(TIME_INDEX);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let inside: BooleanArray = times
        .iter()
        .map(|time| Some(time.is_some_and(|time| window.contains(time))))
        .collect();
    Ok(filter_record_batch(&batch, &inside)?)
}

impl fmt::Debug for RawScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawScanExec")
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}

/// Returns the readings with positive NaNs only: where Arrow sorts and compares, others come before all numbers.
fn with_positive_nan(batch: RecordBatch) -> Result<RecordBatch> {
    let values = batch.column(VALUE_INDEX).as_primitive::<Float64Type>();
    let is_negative_nan = |value: &f64| value.is_nan() && value.is_sign_negative();
    if !values.values().iter().any(is_negative_nan) {
        return Ok(batch);
    }
    let values: Float64Array = values.unary(|value| if value.is_nan() { f64::NAN } else { value });
    let (schema, mut columns, _) = batch.into_parts();
    if let Some(column) = columns.get_mut(VALUE_INDEX) {
        *column = Arc::new(values);
    }
    Ok(RecordBatch::try_new(schema, columns)?)
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
        let on_unreadable = self.on_unreadable.clone();
        let batches = stream::iter(files).then(move |scanned| {
            let format = Arc::clone(&format);
            let (file, on_unreadable) = (scanned.file.clone(), on_unreadable.clone());
            let failed = move |fault: RawFileError| {
                if let (RawFileError::Unreadable { .. }, Some(tell)) = (&fault, &on_unreadable) {
                    tell(&file);
                }
                DataFusionError::External(Box::new(fault))
            };
            let want = ReadRequest {
                window,
                untimed: scanned.untimed,
                batch_rows: BATCH_ROWS,
            };
            async move {
                let batches = read(&scanned.folder, &scanned.file, &format, &want)
                    .await
                    .map_err(&failed)?;
                Ok::<_, DataFusionError>(batches.map_err(failed).boxed())
            }
        });
        let (visible, cut) = (
            self.visible.clone(),
            self.clips_to_window.then_some(self.window),
        );
        let batches = batches.try_flatten().map(move |batch| match &visible {
            Some(visible) => filter_visible(&batch?, visible, cut),
            None => batch,
        });
        let batches = batches.map(|batch| with_positive_nan(batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&READINGS),
            batches,
        )))
    }
}
