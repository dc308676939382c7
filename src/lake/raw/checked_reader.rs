//! A reader for raw files that checks every fetched page before the Parquet library decodes it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use super::footer::chunk_range;
use super::page_header::Chunk;
use super::pages::check_pages;
use crate::lake::storage::pinned_file::PinnedFile;

/// Reads the column chunks of one file. Cheap to clone.
#[derive(Clone)]
pub(super) struct CheckedReader {
    pinned: PinnedFile,
    /// The column chunks that may be read, sorted by their byte ranges.
    chunks: Arc<[(Range<u64>, Chunk)]>,
}

impl CheckedReader {
    /// Creates a reader for the columns `leaves` of a file of `size` bytes. Reads outside these columns fail.
    pub fn new(
        pinned: PinnedFile,
        metadata: &ParquetMetaData,
        leaves: &[usize],
        size: u64,
    ) -> Self {
        let groups = metadata.row_groups().iter();
        let chunks = groups.flat_map(|group| {
            leaves.iter().filter_map(|&leaf| {
                let column = group.column(leaf);
                let chunk = Chunk {
                    column: column.column_descr_ptr(),
                    compression: column.compression(),
                    rows: u64::try_from(group.num_rows()).unwrap_or(0),
                };
                Some((chunk_range(column, size)?, chunk))
            })
        });
        let mut chunks: Vec<_> = chunks.collect();
        // Chunks do not overlap, but some may be empty.
        chunks.sort_by_key(|(range, _)| (range.start, range.end));
        Self {
            pinned,
            chunks: chunks.into(),
        }
    }

    /// Returns the unchecked reader of the file, for parts other than pages.
    pub fn pinned(&mut self) -> &mut PinnedFile {
        &mut self.pinned
    }

    fn check(&self, range: &Range<u64>, bytes: &Bytes) -> Result<()> {
        let after = self
            .chunks
            .partition_point(|(chunk, _)| chunk.start <= range.start);
        let found = after.checked_sub(1).and_then(|at| self.chunks.get(at));
        match found {
            Some((chunk, of)) if range.end <= chunk.end => check_pages(bytes, of, range != chunk)
                .map_err(|implausible| ParquetError::General(implausible.to_string())),
            _ if bytes.is_empty() => Ok(()),
            _ => Err(ParquetError::General(
                "it has pages outside of its columns".to_owned(),
            )),
        }
    }
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let bytes = self.pinned.get_bytes(range.clone()).await?;
            self.check(&range, &bytes)?;
            Ok(bytes)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let fetched = self.pinned.get_byte_ranges(ranges.clone()).await?;
            for (range, bytes) in ranges.iter().zip(&fetched) {
                self.check(range, bytes)?;
            }
            Ok(fetched)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        self.pinned.get_metadata(options)
    }
}
