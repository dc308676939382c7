//! The DataFusion operator. It has one input partition for each raw file, in order of precedence (later files win), and
//! any number of output partitions with batches that are ready to be written.
//!
//! First all files are reduced to minutes, several files concurrently. Then conflicting minutes are decided from raw
//! readings. Then each output partition creates the batches of its parts. Memory is reserved in the session's memory
//! pool. When the pool is exhausted, the operator fails with `ResourcesExhausted`, and the caller tries again with a
//! smaller [`Cell`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tracing::debug;

use super::assemble::{AssembledMinutes, Part, find_conflicting};
use super::cell::Cell;
use super::conflicting::{ConflictingMinutes, RawReading, resolve};
use super::file_reducer::{FileMinutes, FileReducer, FileTask};
use super::left_out::LeftOut;
use super::schema;
use crate::model::{AssetId, Window};

/// The parameters of one pass.
#[derive(Clone)]
pub struct Request {
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

/// The operator that computes rollups of all three resolutions from raw readings.
#[derive(Debug)]
pub struct ResampleExec {
    input: Arc<dyn ExecutionPlan>,
    shared: Arc<Shared>,
    properties: Arc<PlanProperties>,
}

struct Shared {
    request: Request,
    outcome: Mutex<Outcome>,
    seen_assets: Mutex<BTreeSet<AssetId>>,
    ready: OnceCell<std::result::Result<Arc<PreparedParts>, Arc<DataFusionError>>>,
}

/// The assembled minutes, with the memory reservations for them.
struct PreparedParts {
    assembled: AssembledMinutes,
    parts: Vec<Part>,
    _memory: Vec<MemoryReservation>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("cell", &self.request.cell)
            .finish_non_exhaustive()
    }
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
            EquivalenceProperties::new(Arc::clone(&schema::OUTPUT)),
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
        let (shared, input) = (Arc::clone(&self.shared), Arc::clone(&self.input));
        let batches = async move {
            let ready = shared
                .ready
                .get_or_init(|| async {
                    prepare(&shared, &input, &context)
                        .await
                        .map(Arc::new)
                        .map_err(Arc::new)
                })
                .await;
            let ready = ready
                .as_ref()
                .map(Arc::clone)
                .map_err(|error| DataFusionError::Shared(Arc::clone(error)))?;
            let at_once = shared.request.concurrency.max(1);
            let mine: Vec<usize> = (partition..ready.parts.len()).step_by(at_once).collect();
            Ok::<_, DataFusionError>(
                stream::iter(mine).flat_map(move |number| part_stream(Arc::clone(&ready), number)),
            )
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&schema::OUTPUT) as SchemaRef,
            stream::once(batches).try_flatten(),
        )))
    }
}

/// Returns the batches of one part. Each poll creates one batch, so that only one is in memory besides the minutes, and
/// it is still in the cache of the core that encodes it next.
fn part_stream(
    ready: Arc<PreparedParts>,
    number: usize,
) -> impl Stream<Item = Result<arrow::array::RecordBatch>> + Send {
    let mut batches = ready.assembled.batches(number as u32, ready.parts[number]);
    stream::iter(std::iter::from_fn(move || {
        batches
            .next(&ready.assembled)
            .map(|batch| batch.map_err(DataFusionError::from))
    }))
}

/// Performs both passes over the input.
async fn prepare(
    shared: &Arc<Shared>,
    input: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<PreparedParts> {
    let count = shared.request.tasks.len();
    let (taken, mut memory) =
        for_each_file(shared, input, context, (0..count).collect(), reduce_file).await?;
    let mut minutes = Vec::new();
    let mut outcomes: Vec<FileOutcome> = (0..count).map(|_| FileOutcome::default()).collect();
    for (index, result) in taken {
        match result {
            Ok(file) => {
                outcomes[index] = FileOutcome {
                    valid: file.valid,
                    left_out: file.left_out,
                    fault: None,
                };
                minutes.push((index, file));
            }
            Err(fault) => outcomes[index].fault = Some(fault),
        }
    }
    debug!(files = count, "all files are reduced to minutes");
    let contested = find_conflicting(&minutes.iter().map(|(_, file)| file).collect::<Vec<_>>());
    let decided = if contested.is_empty() {
        Default::default()
    } else {
        let contested = Arc::new(contested);
        let again: Vec<usize> = minutes
            .iter()
            .filter(|(_, file)| contested.has_minute_of(file))
            .map(|(index, _)| *index)
            .collect();
        let wanted = Arc::clone(&contested);
        let (mut read, more) = for_each_file(
            shared,
            input,
            context,
            again,
            move |shared, stream, index, reservation| {
                collect_conflicting(shared, stream, index, reservation, Arc::clone(&wanted))
            },
        )
        .await?;
        memory.extend(more);
        read.sort_by_key(|(index, _)| *index);
        let mut readings = Vec::new();
        let mut faults = false;
        for (index, result) in read {
            match result {
                Ok(mut raw) => readings.append(&mut raw),
                Err(fault) => {
                    outcomes[index].fault = Some(fault);
                    faults = true;
                }
            }
        }
        if faults {
            // The minutes of the file from the first pass must not be used; the caller runs again without the file.
            lock(&shared.outcome).files = outcomes;
            return Err(DataFusionError::Execution(
                "a raw file failed on its second reading".to_owned(),
            ));
        }
        let decided = resolve(readings);
        (Arc::into_inner(contested).unwrap_or_default(), decided)
    };
    let (contested, decided) = decided;
    minutes.sort_by_key(|(index, _)| *index);
    let assembled = AssembledMinutes::new(
        minutes.into_iter().map(|(_, file)| file).collect(),
        &contested,
        decided,
    );
    let mut outcome = lock(&shared.outcome);
    outcome.files = outcomes;
    outcome.used = assembled.readings();
    outcome.minutes = assembled.minutes();
    drop(outcome);
    let parts = assembled.parts();
    debug!(parts = parts.len(), "minutes are assembled");
    Ok(PreparedParts {
        assembled,
        parts,
        _memory: memory,
    })
}

/// Results or faults by file. Exhausted memory is an error of the whole pass instead.
type FileResults<T> = Vec<(usize, std::result::Result<T, DataFusionError>)>;

/// Runs `work` for each of the files `indices`, several concurrently.
async fn for_each_file<T, F, Work>(
    shared: &Arc<Shared>,
    input: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    indices: Vec<usize>,
    work: Work,
) -> Result<(FileResults<T>, Vec<MemoryReservation>)>
where
    T: Send + 'static,
    F: Future<Output = std::result::Result<T, FileError>> + Send,
    Work: Fn(Arc<Shared>, ReplayableInput, usize, Arc<MemoryReservation>) -> F
        + Clone
        + Send
        + Sync
        + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let indices = Arc::new(indices);
    let mut workers = JoinSet::new();
    for _ in 0..shared.request.concurrency.clamp(1, indices.len().max(1)) {
        let (shared, work) = (Arc::clone(shared), work.clone());
        let (next, indices) = (Arc::clone(&next), Arc::clone(&indices));
        let (input, context) = (Arc::clone(input), Arc::clone(context));
        workers.spawn(async move {
            let mut taken = Vec::new();
            let mut memory = Vec::new();
            while let Some(&index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let reservation = Arc::new(
                    MemoryConsumer::new(format!("resample file {index}"))
                        .register(context.memory_pool()),
                );
                let stream = ReplayableInput {
                    input: Arc::clone(&input),
                    context: Arc::clone(&context),
                    index,
                };
                let result = match work(
                    Arc::clone(&shared),
                    stream,
                    index,
                    Arc::clone(&reservation),
                )
                .await
                {
                    Ok(result) => Ok(result),
                    Err(FileError::Memory(error)) => return Err(error),
                    Err(FileError::File(error)) => Err(error),
                };
                taken.push((index, result));
                memory.extend(Arc::into_inner(reservation));
            }
            Ok((taken, memory))
        });
    }
    let (mut taken, mut memory) = (Vec::new(), Vec::new());
    while let Some(joined) = workers.join_next().await {
        let (mut results, reservations) =
            joined.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        taken.append(&mut results);
        memory.extend(reservations);
    }
    Ok((taken, memory))
}

/// The reasons why `work` on a file fails.
enum FileError {
    File(DataFusionError),
    Memory(DataFusionError),
}

/// An input file that can be read repeatedly.
struct ReplayableInput {
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    index: usize,
}

impl ReplayableInput {
    fn stream(&self) -> std::result::Result<SendableRecordBatchStream, FileError> {
        self.input
            .execute(self.index, Arc::clone(&self.context))
            .map_err(FileError::File)
    }
}

/// Performs the first pass over one file.
async fn reduce_file(
    shared: Arc<Shared>,
    file: ReplayableInput,
    index: usize,
    memory: Arc<MemoryReservation>,
) -> std::result::Result<FileMinutes, FileError> {
    let request = &shared.request;
    let mut intake = FileReducer::new(request.cell, request.plausible, &request.tasks[index]);
    let mut stream = file.stream()?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(FileError::File)?;
        intake.push(&batch);
        (request.on_readings)(batch.num_rows() as u64);
        if intake.is_unsorted() {
            intake = FileReducer::new(request.cell, request.plausible, &request.tasks[index])
                .with_sorting(request.sort_readings);
            stream = file.stream()?;
        }
        if let Err(error) = memory.try_resize(intake.bytes()) {
            lock(&shared.seen_assets).extend(intake.assets());
            return Err(FileError::Memory(error));
        }
    }
    let minutes = intake.finish();
    memory
        .try_resize(minutes.bytes())
        .map_err(FileError::Memory)?;
    lock(&shared.seen_assets).extend(minutes.assets.iter().map(|(asset, _)| *asset));
    Ok(minutes)
}

/// Performs the second pass over one file. Returns its valid readings in conflicting minutes, in row order.
async fn collect_conflicting(
    shared: Arc<Shared>,
    file: ReplayableInput,
    _: usize,
    memory: Arc<MemoryReservation>,
    contested: Arc<ConflictingMinutes>,
) -> std::result::Result<Vec<RawReading>, FileError> {
    let window = shared.request.cell.window();
    let mut readings = Vec::new();
    let mut stream = file.stream()?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(FileError::File)?;
        let ids = batch.column(0).as_dictionary::<Int32Type>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        let texts = ids.values().as_string::<i32>();
        let assets: Vec<Option<AssetId>> = (0..texts.len())
            .map(|entry| {
                if texts.is_valid(entry) {
                    AssetId::parse(texts.value(entry)).ok()
                } else {
                    None
                }
            })
            .map(|asset| asset.filter(|asset| contested.minutes_of_asset(*asset).is_some()))
            .collect();
        for row in 0..batch.num_rows() {
            if !ids.is_valid(row) || !times.is_valid(row) || !values.is_valid(row) {
                continue;
            }
            let (time, value) = (times.value(row), values.value(row));
            let Some(asset) = assets[ids.keys().value(row) as usize] else {
                continue;
            };
            if value.is_finite()
                && shared.request.plausible.contains(time)
                && window.contains(time)
                && contested.contains(asset, time)
            {
                readings.push(RawReading { asset, time, value });
            }
        }
        // Reserves 2.5 times the size: for the readings, for their copy in the merge of all files, and half for the
        // sort.
        memory
            .try_resize(readings.capacity() * size_of::<RawReading>() * 5 / 2)
            .map_err(FileError::Memory)?;
    }
    Ok(readings)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
