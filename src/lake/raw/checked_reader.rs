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

/// The size in bytes below which column chunks are small: bytes after them are fetched with them.
const MAX_SMALL_BYTES: u64 = 64 << 10;
/// The maximum number of bytes that are fetched ahead.
const MAX_AHEAD_BYTES: u64 = 1 << 20;

/// Reads the column chunks of one file. Cheap to clone.
#[derive(Clone)]
pub(super) struct CheckedReader {
    pinned: PinnedFile,
    ahead: ReadAhead,
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
        let ends = chunks.iter().map(|(range, _)| range.end);
        Self {
            pinned,
            ahead: ReadAhead::new(ends.max().unwrap_or(0)),
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

/// Bytes that were fetched ahead. A file may have a row group for each few rows, and a request for each would take most of
/// the time.
#[derive(Debug, Clone)]
struct ReadAhead {
    /// The end of the last column chunk.
    end: u64,
    /// The range of the last request.
    last: Range<u64>,
    /// The number of bytes that the next request fetches ahead, if it follows the last one.
    length: u64,
    start: u64,
    bytes: Bytes,
}

impl ReadAhead {
    fn new(end: u64) -> Self {
        Self {
            end,
            last: 0..0,
            length: 0,
            start: 0,
            bytes: Bytes::new(),
        }
    }

    /// Returns a range of the bytes that were fetched.
    fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }

    /// Returns the range to fetch for a request for `wanted`; `None` if nothing is fetched ahead. The range is longer
    /// with each small request that follows the one before.
    fn plan(&mut self, wanted: &Range<u64>) -> Option<Range<u64>> {
        let is_small = wanted.end.saturating_sub(wanted.start) <= MAX_SMALL_BYTES;
        let gap = wanted.start.checked_sub(self.last.end);
        let follows = self.last.end > 0 && gap.is_some_and(|gap| gap <= MAX_SMALL_BYTES);
        self.last = wanted.clone();
        if !is_small || !follows {
            self.length = 0;
            return None;
        }
        let least = wanted.end.saturating_sub(wanted.start);
        self.length = (self.length * 2).max(least).min(MAX_AHEAD_BYTES);
        let end = wanted.end.saturating_add(self.length).min(self.end);
        (end > wanted.end).then_some(wanted.start..end)
    }
}

impl CheckedReader {
    /// Fetches ranges, from what was fetched ahead if possible.
    async fn fetch(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let known: Option<Vec<Bytes>> = ranges.iter().map(|range| self.ahead.get(range)).collect();
        let start = ranges.iter().map(|range| range.start).min();
        let Some((start, end)) = start.zip(ranges.iter().map(|range| range.end).max()) else {
            return Ok(Vec::new());
        };
        if let Some(known) = known {
            self.ahead.last = start..end;
            return Ok(known);
        }
        let Some(planned) = self.ahead.plan(&(start..end)) else {
            return self.pinned.get_byte_ranges(ranges.to_vec()).await;
        };
        self.ahead.start = planned.start;
        self.ahead.bytes = self.pinned.get_bytes(planned).await?;
        let found = ranges.iter().map(|range| self.ahead.get(range));
        found
            .collect::<Option<Vec<Bytes>>>()
            .ok_or_else(|| ParquetError::EOF("it ends before its last column".to_owned()))
    }
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let ranges = [range];
            let fetched = self.fetch(&ranges).await?;
            let bytes = fetched.into_iter().next().unwrap_or_default();
            let [range] = ranges;
            self.check(&range, &bytes)?;
            Ok(bytes)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let fetched = self.fetch(&ranges).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_ahead_grows_while_small_requests_follow_each_other() {
        let mut ahead = ReadAhead::new(10 << 20);
        assert_eq!(ahead.plan(&(4..104)), None, "the first request is exact");
        let mut at = 104;
        let mut requests = 1;
        while at < 9 << 20 {
            if let Some(planned) = ahead.plan(&(at..at + 100)) {
                assert!(planned.start == at && planned.end <= at + 100 + MAX_AHEAD_BYTES);
                at = planned.end;
                ahead.last = at - 100..at;
            }
            requests += 1;
        }
        assert!(requests < 30, "{requests}");
        assert_eq!(ahead.plan(&(1_000..1_100)), None, "a jump is exact");
        assert_eq!(
            ahead.plan(&(1_100..9 << 20)),
            None,
            "large chunks are exact"
        );
    }
}
