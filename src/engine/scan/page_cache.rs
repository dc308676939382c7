//! Reads of data files. Pages that are in the page cache of the operating system are read at once, on the calling
//! thread: handing a read of a few pages to another thread and waking up afterwards takes longer than the rest of a
//! small query.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaData;

use crate::lake::storage::scanned_bytes;
use crate::metrics::{Cache, METRICS};

/// The maximum number of bytes to read on the calling thread. Copying more blocks the thread for too long.
const MAX_SYNC_READ_BYTES: u64 = 1 << 20;

/// Creates readers of data files, local or remote. Bytes of pages are counted for the query, those of footers are not.
#[derive(Debug)]
pub(in crate::engine) struct PageCacheReaderFactory {
    /// The reader factory that caches footers and reads pages from the store.
    inner: CachedParquetFileReaderFactory,
    /// The folder that paths are relative to; `None` if it is not local.
    root: Option<PathBuf>,
}

impl PageCacheReaderFactory {
    /// Wraps `plain`. The store's paths are relative to `root`, which is `None` if the store is not local.
    pub fn new(plain: CachedParquetFileReaderFactory, root: Option<PathBuf>) -> Self {
        Self { inner: plain, root }
    }
}

impl ParquetFileReaderFactory for PageCacheReaderFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = self
            .root
            .as_ref()
            .map(|root| root.join(file.object_meta.location.as_ref()));
        let plain = self
            .inner
            .create_reader(partition, file, footer_hint, metrics)?;
        Ok(Box::new(PageCacheReader {
            inner: plain,
            path,
            file: None,
        }))
    }
}

/// A reader of one file.
struct PageCacheReader {
    inner: Box<dyn AsyncFileReader + Send>,
    /// The path of the file; `None` if it is not local.
    path: Option<PathBuf>,
    /// The file, opened when it is needed first.
    file: Option<File>,
}

impl PageCacheReader {
    /// Returns the bytes if all of them are in the page cache.
    fn read_cached(&mut self, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if wanted > MAX_SYNC_READ_BYTES {
            return None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(self.path.as_ref()?).ok()?),
        };
        let found: Option<Vec<Bytes>> = ranges
            .iter()
            .map(|range| read_nowait(file, range))
            .collect();
        METRICS.engine.count_lookup(Cache::Pages, found.is_some());
        found
    }
}

impl AsyncFileReader for PageCacheReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        scanned_bytes::count_scanned_bytes(range.end - range.start);
        match self.read_cached(std::slice::from_ref(&range)).as_deref() {
            Some([bytes]) => futures::future::ready(Ok(bytes.clone())).boxed(),
            _ => self.inner.get_bytes(range),
        }
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        scanned_bytes::count_scanned_bytes(
            ranges.iter().map(|range| range.end - range.start).sum(),
        );
        match self.read_cached(&ranges) {
            Some(bytes) => futures::future::ready(Ok(bytes)).boxed(),
            None => self.inner.get_byte_ranges(ranges),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.inner.get_metadata(options)
    }
}

/// Reads `range` from the page cache; returns `None` if the read would wait for a disk, or if the system cannot tell.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "the system call that says whether it would wait"
)]
fn read_nowait(file: &File, range: &Range<u64>) -> Option<Bytes> {
    use std::os::fd::AsRawFd;

    let length = usize::try_from(range.end - range.start).ok()?;
    let mut buffer = vec![0; length];
    let mut read = 0;
    while read < length {
        let rest = buffer.get_mut(read..)?;
        let part = libc::iovec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        };
        let offset = libc::off64_t::try_from(range.start + read as u64).ok()?;
        // SAFETY: `part` describes one buffer, of that length, which outlives the call and which nothing else accesses
        // meanwhile.
        let count = unsafe {
            libc::preadv2(
                file.as_raw_fd(),
                &raw const part,
                1,
                offset,
                libc::RWF_NOWAIT,
            )
        };
        match usize::try_from(count) {
            Ok(count) if count > 0 => read += count,
            // The read would block, the file ends, or the file system does not support the flag: the plain reader
            // handles it.
            _ => return None,
        }
    }
    Some(buffer.into())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn read_nowait(_: &File, _: &Range<u64>) -> Option<Bytes> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_nowait_after_a_write_returns_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..100_000_u32).map(|byte| byte as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        // Some file systems do not support `RWF_NOWAIT`.
        if let Some(read) = read_nowait(&file, &(500..70_000)) {
            assert_eq!(read, content[500..70_000]);
        }
        assert_eq!(
            read_nowait(&file, &(99_000..100_001)),
            None,
            "the file ends before"
        );
    }
}
