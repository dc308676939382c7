//! Puts bytes into the store as they are made: an object is there whole, or not at all.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWrite;

use super::SimulateError;

/// Below this an object is put at once; above it, in parts of this size (S3 wants at least 5 MiB).
const PART: usize = 6 << 20;
/// Parts of one object that may be on their way; more would only hold memory.
const PARTS_UNDER_WAY: usize = 2;

/// An object that is being written.
pub(super) struct Upload {
    writer: BufWriter,
    path: Path,
    bytes: u64,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        let writer = BufWriter::with_capacity(store, path.clone(), PART)
            .with_max_concurrency(PARTS_UNDER_WAY);
        Self {
            writer,
            path,
            bytes: 0,
        }
    }

    /// Adds `bytes` to the object.
    pub async fn put(&mut self, bytes: Bytes) -> Result<(), SimulateError> {
        self.bytes += bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(());
        }
        match self.writer.put(bytes).await {
            Ok(()) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Makes the object visible; returns its size in bytes.
    pub async fn finish(mut self) -> Result<u64, SimulateError> {
        match std::future::poll_fn(|context| Pin::new(&mut self.writer).poll_shutdown(context))
            .await
        {
            Ok(()) => Ok(self.bytes),
            Err(error) => Err(SimulateError::Write {
                file: self.path.to_string(),
                source: error,
            }),
        }
    }

    fn failed(&self, source: object_store::Error) -> SimulateError {
        SimulateError::Write {
            file: self.path.to_string(),
            source: source.into(),
        }
    }
}
