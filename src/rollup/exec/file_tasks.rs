//! Runs the work of a pass on several files concurrently, with a memory reservation for each file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use tokio::task::JoinSet;

use super::pass::Shared;

/// The input of the passes, and the state that they share.
#[derive(Clone)]
pub(super) struct PassInput {
    pub shared: Arc<Shared>,
    pub input: Arc<dyn ExecutionPlan>,
    pub context: Arc<TaskContext>,
}

/// Results or faults by file. Exhausted memory is an error of the whole pass instead.
pub(super) type FileResults<T> = Vec<(usize, std::result::Result<T, DataFusionError>)>;

/// Runs `work` for each of the files `indices`, several concurrently.
pub(super) async fn for_each_file<T, F, Work>(
    pass: &PassInput,
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
    for _ in 0..pass
        .shared
        .request
        .concurrency
        .clamp(1, indices.len().max(1))
    {
        let (pass, work) = (pass.clone(), work.clone());
        let (next, indices) = (Arc::clone(&next), Arc::clone(&indices));
        workers.spawn(async move {
            let mut taken = Vec::new();
            let mut memory = Vec::new();
            while let Some(&index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let reservation = Arc::new(
                    MemoryConsumer::new(format!("resample file {index}"))
                        .register(pass.context.memory_pool()),
                );
                let stream = ReplayableInput {
                    input: Arc::clone(&pass.input),
                    context: Arc::clone(&pass.context),
                    index,
                };
                let result = match work(
                    Arc::clone(&pass.shared),
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
pub(super) enum FileError {
    File(DataFusionError),
    Memory(DataFusionError),
}

/// An input file that can be read repeatedly.
pub(super) struct ReplayableInput {
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    index: usize,
}

impl ReplayableInput {
    /// Reads the file from its beginning.
    pub fn stream(&self) -> std::result::Result<SendableRecordBatchStream, FileError> {
        self.input
            .execute(self.index, Arc::clone(&self.context))
            .map_err(FileError::File)
    }
}
