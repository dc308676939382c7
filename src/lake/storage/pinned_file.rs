//! Fetches byte ranges of one version of a file. A fetch fails if the file has changed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, coalesce_ranges};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::scanned_bytes;

/// The number of bytes at the end of a file that are fetched first. They contain most footers.
const FOOTER_PREFETCH_BYTES: usize = 64 << 10;
/// The gap in bytes below which two ranges are fetched in one request.
const MAX_COALESCED_GAP_BYTES: u64 = 1 << 20;

/// One version of one file.
#[derive(Clone)]
pub(in crate::lake) struct PinnedFile {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    etag: Option<String>,
    size: u64,
}

/// Returns the object store's error inside an error of the Parquet library.
pub(in crate::lake) fn store_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a object_store::Error> {
    error
        .downcast_ref::<object_store::Error>()
        .or_else(|| error.source().and_then(store_error))
}

impl PinnedFile {
    /// Pins the file at `path` with `size` bytes. With an `etag`, fetches fail for any other version of the file.
    pub fn new(objects: Arc<dyn ObjectStore>, path: &str, etag: Option<String>, size: u64) -> Self {
        // `path` is escaped as in a listing; `Path::from` would escape it again.
        let path = Path::parse(path).unwrap_or_else(|_| Path::from(path));
        Self {
            objects,
            path,
            etag,
            size,
        }
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        scanned_bytes::count_scanned_bytes(range.end.saturating_sub(range.start));
        if range.end > self.size {
            return Err(ParquetError::EOF(format!(
                "it ends at byte {}, but byte {} was requested",
                self.size, range.end
            )));
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.etag.clone(),
            ..GetOptions::default()
        };
        let got = self.objects.get_opts(&self.path, options).await;
        let bytes = match got {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        bytes.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for PinnedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.fetch(range).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { coalesce_ranges(&ranges, |range| self.fetch(range), MAX_COALESCED_GAP_BYTES).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader =
                ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_PREFETCH_BYTES));
            reader.load_and_finish(self, size).await.map(Arc::new)
        }
        .boxed()
    }
}
