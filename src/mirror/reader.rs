//! Reads the lake's rows of some dates and encodes them, while earlier ones are being sent.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::copy_format::Rows;
use super::error::MirrorError;
use super::plan::DateGroup;
use crate::lake::delta::table::Table;

/// The number of rows in a chunk; about a megabyte.
const CHUNK_ROWS: usize = 8_192;
/// The maximum number of chunks that wait to be sent. It slows the reader down to the speed of Postgres.
const MAX_QUEUED_CHUNKS: usize = 4;

/// Some rows in COPY format.
pub(super) struct Chunk {
    pub bytes: Vec<u8>,
    pub rows: u64,
    /// Assets that no earlier chunk contained.
    pub assets: Vec<Uuid>,
}

/// The rows of a unit, in chunks. Dropping it stops the reading.
pub(super) struct Reader {
    chunks: mpsc::Receiver<Result<Chunk, MirrorError>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts to read.
    pub fn start(table: Arc<Table>, unit: DateGroup) -> Self {
        let (sender, chunks) = mpsc::channel(MAX_QUEUED_CHUNKS);
        let task = tokio::spawn(async move {
            if let Err(error) = read(&table, &unit, &sender).await {
                // If the reader was dropped, nobody receives the error.
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { chunks, task }
    }

    /// Returns the next rows; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Chunk>, MirrorError> {
        match self.chunks.recv().await {
            Some(chunk) => chunk.map(Some),
            // The channel closes only when the task has ended.
            None => match (&mut self.task).await {
                Ok(()) => Ok(None),
                Err(_) => Err(MirrorError::ReaderFailed),
            },
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(
    table: &Table,
    unit: &DateGroup,
    chunks: &mpsc::Sender<Result<Chunk, MirrorError>>,
) -> Result<(), MirrorError> {
    let name = table.resolution().table();
    let mut known = HashSet::new();
    for file in &unit.files {
        let rows = table.read_file(file).await;
        let mut batches = rows.map_err(MirrorError::table(name))?.batches;
        while let Some(batch) = batches.try_next().await.map_err(MirrorError::table(name))? {
            let foreign = |problem: &dyn std::fmt::Display| MirrorError::UnexpectedData {
                table: name,
                problem: format!("{}: {problem}", file.path),
            };
            let rows = Rows::new(&batch, table.schema()).map_err(|error| foreign(&error))?;
            for start in (0..rows.len()).step_by(CHUNK_ROWS) {
                let range = start..rows.len().min(start + CHUNK_ROWS);
                let (mut bytes, mut seen) = (Vec::new(), HashSet::new());
                let encoded = rows
                    .encode(range, &unit.dates, &mut bytes, &mut seen)
                    .map_err(|error| foreign(&error))?;
                if encoded == 0 {
                    continue;
                }
                let chunk = Chunk {
                    bytes,
                    rows: encoded,
                    assets: seen
                        .into_iter()
                        .filter(|asset| known.insert(*asset))
                        .collect(),
                };
                if chunks.send(Ok(chunk)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
