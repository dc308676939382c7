//! Uploads bytes to the store while they are generated. An object becomes visible only when it is complete.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWrite;

use super::error::SimulateError;

/// The part size in bytes. Smaller objects are uploaded in one request (S3 requires at least 5 MiB per part).
const PART_BYTES: usize = 6 << 20;
/// The maximum number of parts of one object in flight; more would only use memory.
const MAX_PARTS_IN_FLIGHT: usize = 2;

/// An upload in progress.
pub(super) struct Upload {
    writer: BufWriter,
    path: Path,
    bytes: u64,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        let writer = BufWriter::with_capacity(store, path.clone(), PART_BYTES)
            .with_max_concurrency(MAX_PARTS_IN_FLIGHT);
        Self {
            writer,
            path,
            bytes: 0,
        }
    }

    /// Appends `bytes` to the object.
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
