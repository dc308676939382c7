//! Reads of data files: what the system holds in memory is taken at once, on the thread that wants it. To hand a read of
//! a few pages to another thread, and to wake up when it is done, takes longer than all else that a small query does.

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

use crate::lake::scanned;
use crate::metrics::{Cache, METRICS};

/// More than so many bytes are read elsewhere: to copy them takes long enough for others to want the thread.
const AT_ONCE: u64 = 1 << 20;

/// Makes readers of the data files below a local folder, or of remote ones. What they read is counted; footers are not.
#[derive(Debug)]
pub(super) struct Readers {
    /// Footers from the cache, and pages from the store.
    plain: CachedParquetFileReaderFactory,
    /// The folder that paths start from.
    root: Option<PathBuf>,
}

impl Readers {
    /// In front of `plain`; the store's paths start from `root`, if that is on this machine.
    pub fn new(plain: CachedParquetFileReaderFactory, root: Option<PathBuf>) -> Self {
        Self { plain, root }
    }
}

impl ParquetFileReaderFactory for Readers {
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
            .plain
            .create_reader(partition, file, footer_hint, metrics)?;
        Ok(Box::new(Reader {
            plain,
            path,
            file: None,
        }))
    }
}

/// Reads one file.
struct Reader {
    plain: Box<dyn AsyncFileReader + Send>,
    /// None if it is not on this machine.
    path: Option<PathBuf>,
    /// Opened when it is needed first.
    file: Option<File>,
}

impl Reader {
    /// The bytes, if all of them are in memory.
    fn at_once(&mut self, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if wanted > AT_ONCE {
            return None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(self.path.as_ref()?).ok()?),
        };
        let found: Option<Vec<Bytes>> = ranges.iter().map(|range| in_memory(file, range)).collect();
        METRICS.engine.looked_up(Cache::Pages, found.is_some());
        found
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        scanned::count(range.end - range.start);
        match self.at_once(std::slice::from_ref(&range)).as_deref() {
            Some([bytes]) => futures::future::ready(Ok(bytes.clone())).boxed(),
            _ => self.plain.get_bytes(range),
        }
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        scanned::count(ranges.iter().map(|range| range.end - range.start).sum());
        match self.at_once(&ranges) {
            Some(bytes) => futures::future::ready(Ok(bytes)).boxed(),
            None => self.plain.get_byte_ranges(ranges),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.plain.get_metadata(options)
    }
}

/// Reads `range`; none if that would have to wait for a disk, or cannot be told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "the system call that says whether it would wait"
)]
fn in_memory(file: &File, range: &Range<u64>) -> Option<Bytes> {
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
        // SAFETY: `part` is the one buffer, of that length, which lives and is nobody else's until the call is over.
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
            // It would wait, or the file ends, or the file system cannot say: the plain way finds out.
            _ => return None,
        }
    }
    Some(buffer.into())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn in_memory(_: &File, _: &Range<u64>) -> Option<Bytes> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..100_000_u32).map(|byte| byte as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        // Some file systems cannot say.
        if let Some(read) = in_memory(&file, &(500..70_000)) {
            assert_eq!(read, content[500..70_000]);
        }
        assert_eq!(
            in_memory(&file, &(99_000..100_001)),
            None,
            "the file ends before"
        );
    }
}
