//! The parameters, the shared state and the result of one pass.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use tokio::sync::OnceCell;

use crate::model::{AssetId, Window};
use crate::rollup::assemble::{AssembledMinutes, Part};
use crate::rollup::cell::Cell;
use crate::rollup::file_reducer::FileTask;
use crate::rollup::left_out::LeftOut;
use crate::rollup_schema::RollupSchema;

/// The parameters of one pass.
#[derive(Clone)]
pub struct Request {
    /// The columns to compute.
    pub schema: RollupSchema,
    /// The dates and assets to compute.
    pub cell: Cell,
    /// The window of plausible times. Readings outside are left out.
    pub plausible: Window,
    /// The task of each input partition. A partition is one file.
    pub tasks: Vec<FileTask>,
    /// The number of files that are read concurrently, and of output partitions.
    pub concurrency: usize,
    /// The maximum number of readings that are buffered to be sorted, for a file that is not in order.
    pub sort_readings: usize,
    /// The callback for the number of readings that were read.
    pub on_readings: Arc<dyn Fn(u64) + Send + Sync>,
}

/// The result for one input file.
#[derive(Debug, Default)]
pub struct FileOutcome {
    /// The number of valid readings inside the cell, including duplicates.
    pub valid: u64,
    /// The readings that were left out, among those that the task counts.
    pub left_out: LeftOut,
    /// The reason why the file was not used, if it was not.
    pub fault: Option<DataFusionError>,
}

/// The result of the whole pass.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The results by input partition.
    pub files: Vec<FileOutcome>,
    /// The number of readings used. Each time of an asset counts once.
    pub used: u64,
    /// The number of minute rows.
    pub minutes: usize,
    /// The median of the assets in the cell, at which it can be split.
    pub median_asset: Option<AssetId>,
}

/// The state that the partitions of a pass share.
pub(super) struct Shared {
    pub(super) request: Request,
    pub(super) outcome: Mutex<Outcome>,
    pub(super) seen_assets: Mutex<BTreeSet<AssetId>>,
    pub(super) ready: OnceCell<std::result::Result<Arc<PreparedParts>, Arc<DataFusionError>>>,
}

/// The assembled minutes, with the memory reservations for them.
pub(super) struct PreparedParts {
    pub(super) assembled: AssembledMinutes,
    pub(super) parts: Vec<Part>,
    pub(super) _memory: Vec<MemoryReservation>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("cell", &self.request.cell)
            .finish_non_exhaustive()
    }
}

/// Locks a mutex whose data is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
