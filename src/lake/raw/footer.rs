//! Reads the footers and page indexes of raw files. Checks first that the declared sizes are plausible for the size of
//! the file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};

use super::arrow_schema::with_usable_schema;
use super::error::RawFileError;
use super::file_names::has_parquet_ending;
use super::raw_file::RawFile;
use super::thrift::{Reader, Type, expect_type};
use crate::decoding::DecodingError;
use crate::lake::storage::pinned_file::PinnedFile;

/// The number of bytes at the end of a file that are fetched first. They contain most footers.
const PREFETCH_BYTES: u64 = 64 << 10;
/// The length in bytes of the footer's length field and the magic bytes after it.
const TAIL_BYTES: u64 = 8;
/// The maximum size of a footer in bytes.
const MAX_FOOTER_BYTES: u64 = 32 << 20;
/// The maximum size in bytes of all page indexes together. Beyond it, no page index is used.
const MAX_INDEX_BYTES: u64 = 32 << 20;
/// The maximum number of elements in all page indexes together.
const MAX_INDEX_ELEMENTS: usize = 4 << 20;
/// The maximum number of elements of a schema. `MAX_SCHEMA_DEPTH` limits their nesting.
const MAX_SCHEMA_ELEMENTS: usize = 10_000;
const MAX_SCHEMA_DEPTH: usize = 32;
/// The maximum number of row groups. Their ordinals have 16 bits.
const MAX_ROW_GROUPS: usize = 32_767;
/// The maximum number of row groups times columns.
const MAX_COLUMN_CHUNKS: usize = 1 << 18;
/// The maximum number of key-value pairs of metadata, and of column orders.
const MAX_PAIRS: usize = 10_000;
/// The maximum number of rows per byte of a file. A constant value at evenly spaced times takes one byte for a few
/// thousand rows.
const MAX_ROWS_PER_BYTE: u64 = 1 << 15;
/// The maximum size in bytes of a value of a fixed-length type. Ids have 16 bytes, and decimals at most 32.
const MAX_VALUE_BYTES: i32 = 64;

/// Fetches, checks and decodes a file's footer.
pub(super) async fn read_footer(
    pinned: &mut PinnedFile,
    file: &RawFile,
) -> Result<Arc<ParquetMetaData>, RawFileError> {
    let fault = |error: ParquetError| RawFileError::from_parquet_error(&file.path, &error);
    let implausible = |reason: DecodingError| RawFileError::Unreadable {
        path: file.path.clone(),
        reason: reason.0,
    };
    let hint = PREFETCH_BYTES.min(file.size);
    let fetched = pinned.get_bytes(file.size - hint..file.size).await;
    let end = fetched.map_err(fault)?;
    if !has_parquet_ending(&file.path) && !ends_with_magic(&end) {
        return Err(RawFileError::NotParquet {
            path: file.path.clone(),
            reason: "it does not end with the Parquet magic bytes".to_owned(),
        });
    }
    let length = footer_length(&end, file.size).map_err(implausible)?;
    let in_hint = usize::try_from(TAIL_BYTES + length).ok();
    let footer = match in_hint.and_then(|bytes| end.len().checked_sub(bytes)) {
        Some(start) => end.slice(start..),
        None => {
            let start = file.size - TAIL_BYTES - length;
            pinned.get_bytes(start..file.size).await.map_err(fault)?
        }
    };
    let content = &footer[..footer.len().saturating_sub(8)];
    check_footer(content).map_err(implausible)?;
    let metadata = ParquetMetaDataReader::decode_metadata(content).map_err(fault)?;
    check_numbers(&metadata, file.size).map_err(implausible)?;
    let metadata = with_usable_schema(metadata).map_err(implausible)?;
    Ok(Arc::new(metadata))
}

/// The error of a file that cannot be read without a key.
const ENCRYPTED: &str = "it is encrypted, which is not supported; write it without encryption";

/// Whether the end of a file is that of a Parquet file, which may be encrypted.
fn ends_with_magic(end: &[u8]) -> bool {
    end.ends_with(b"PAR1") || end.ends_with(b"PARE")
}

fn footer_length(end: &[u8], size: u64) -> Result<u64, DecodingError> {
    let Some((_, [a, b, c, d, magic @ ..])) = end.split_last_chunk::<8>() else {
        return Err(DecodingError::new("it is too short for a Parquet file"));
    };
    if magic != b"PAR1" {
        let is_encrypted = magic == b"PARE";
        return Err(DecodingError::new(match is_encrypted {
            true => ENCRYPTED,
            false => {
                "it does not end with the Parquet magic bytes. It is not a Parquet file, is damaged, or is still being written"
            }
        }));
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    if length > size - TAIL_BYTES {
        return Err(DecodingError::new(format!(
            "its footer declares {length} bytes, and the file has {size}. It is damaged, or is still being written"
        )));
    }
    if length > MAX_FOOTER_BYTES {
        return Err(DecodingError::new(format!(
            "its footer has {length} bytes, and the limit is {MAX_FOOTER_BYTES}; write it with fewer row groups"
        )));
    }
    Ok(length)
}

/// Checks the structure of a footer without storing any of it.
fn check_footer(bytes: &[u8]) -> Result<(), DecodingError> {
    let mut chunks = 0;
    Reader::new(bytes).visit_struct(|reader, id, kind| match id {
        2 => {
            expect_type(kind, Type::List)?;
            check_schema(reader).map(|()| true)
        }
        4 => {
            expect_type(kind, Type::List)?;
            let groups = reader.read_struct_list_header()?;
            check_max(groups, MAX_ROW_GROUPS, "row groups")?;
            for _ in 0..groups {
                check_row_group(reader, &mut chunks)?;
            }
            Ok(true)
        }
        5 | 7 => {
            expect_type(kind, Type::List)?;
            let pairs = reader.skip_list(Type::Struct)?;
            check_max(pairs, MAX_PAIRS, "pairs of metadata").map(|()| true)
        }
        1 => expect_type(kind, Type::I32).map(|()| false),
        3 => expect_type(kind, Type::I64).map(|()| false),
        6 => expect_type(kind, Type::Binary).map(|()| false),
        _ => Ok(false),
    })
}

fn check_max(count: usize, max: usize, of: &str) -> Result<(), DecodingError> {
    match count > max {
        true => Err(DecodingError::new(format!(
            "its footer declares {count} {of}, and the limit is {max}"
        ))),
        false => Ok(()),
    }
}

/// Checks that the elements of a schema form one tree of limited depth.
fn check_schema(reader: &mut Reader<'_>) -> Result<(), DecodingError> {
    let elements = reader.read_struct_list_header()?;
    check_max(elements, MAX_SCHEMA_ELEMENTS, "columns")?;
    // The number of children that are still to come, for each open element.
    let mut open: Vec<usize> = Vec::new();
    for index in 0..elements {
        let mut children = 0;
        reader.visit_struct(|reader, id, kind| match id {
            5 => {
                expect_type(kind, Type::I32)?;
                children = reader.read_i32()?;
                Ok(true)
            }
            1..=3 | 6..=9 => expect_type(kind, Type::I32).map(|()| false),
            4 => expect_type(kind, Type::Binary).map(|()| false),
            10 => expect_type(kind, Type::Struct).map(|()| false),
            _ => Ok(false),
        })?;
        let count = usize::try_from(children).ok();
        let Some(count) = count.filter(|count| *count < elements - index) else {
            return Err(DecodingError::new(format!(
                "its schema declares a column with {children} children, and has only {elements} columns"
            )));
        };
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(siblings) = open.last_mut() {
            *siblings -= 1;
        }
        open.push(count);
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(DecodingError::new(format!(
                "its schema is nested more than {MAX_SCHEMA_DEPTH} levels deep"
            )));
        }
    }
    Ok(())
}

fn check_row_group(reader: &mut Reader<'_>, chunks: &mut usize) -> Result<(), DecodingError> {
    reader.visit_struct(|reader, id, kind| match id {
        1 => {
            expect_type(kind, Type::List)?;
            let columns = reader.read_struct_list_header()?;
            *chunks += columns;
            check_max(*chunks, MAX_COLUMN_CHUNKS, "row groups and columns")?;
            for _ in 0..columns {
                check_column_chunk(reader)?;
            }
            Ok(true)
        }
        4 => expect_type(kind, Type::List).map(|()| false),
        2 | 3 | 5 | 6 => expect_type(kind, Type::I64).map(|()| false),
        7 => expect_type(kind, Type::I16).map(|()| false),
        _ => Ok(false),
    })
}

fn check_column_chunk(reader: &mut Reader<'_>) -> Result<(), DecodingError> {
    reader.visit_struct(|reader, id, kind| match id {
        // The keys of an encrypted column in a footer that is not encrypted. The library supports no file with one.
        8 => Err(DecodingError::new(ENCRYPTED)),
        3 => {
            expect_type(kind, Type::Struct)?;
            reader.visit_struct(|reader, id, kind| match id {
                2 | 3 | 8 | 13 => expect_type(kind, Type::List).map(|()| false),
                12 | 17 => expect_type(kind, Type::Struct).map(|()| false),
                16 => {
                    expect_type(kind, Type::Struct)?;
                    reader.visit_struct(|_, id, kind| match id {
                        2 | 3 => expect_type(kind, Type::List).map(|()| false),
                        _ => Ok(false),
                    })?;
                    Ok(true)
                }
                1 | 4 | 15 => expect_type(kind, Type::I32).map(|()| false),
                5..=7 | 9..=11 | 14 => expect_type(kind, Type::I64).map(|()| false),
                _ => Ok(false),
            })?;
            Ok(true)
        }
        1 => expect_type(kind, Type::Binary).map(|()| false),
        2 | 4 | 6 => expect_type(kind, Type::I64).map(|()| false),
        5 | 7 => expect_type(kind, Type::I32).map(|()| false),
        _ => Ok(false),
    })
}

/// Checks the numbers of rows against the size of the file.
fn check_numbers(metadata: &ParquetMetaData, size: u64) -> Result<(), DecodingError> {
    let allowed = size.saturating_mul(MAX_ROWS_PER_BYTE);
    let mut rows: u64 = 0;
    for group in metadata.row_groups() {
        let declared = group.num_rows();
        rows = match u64::try_from(declared) {
            Ok(declared) => rows.saturating_add(declared),
            Err(_) => {
                return Err(DecodingError::new(format!(
                    "it declares a row group of {declared} rows"
                )));
            }
        };
        if rows > allowed {
            return Err(DecodingError::new(format!(
                "it declares {rows} rows or more, which do not fit into a file of {size} bytes"
            )));
        }
    }
    Ok(())
}

/// Checks that the chunks of the columns that are read lie inside the file and do not overlap.
pub(super) fn check_chunks(
    metadata: &ParquetMetaData,
    leaves: &[usize],
    size: u64,
) -> Result<(), DecodingError> {
    let schema = metadata.file_metadata().schema_descr();
    for &leaf in leaves {
        let column = schema.column(leaf);
        if column.type_length() > MAX_VALUE_BYTES {
            return Err(DecodingError::new(format!(
                "its column {:?} has values of {} bytes, and the limit is {MAX_VALUE_BYTES}",
                column.name(),
                column.type_length()
            )));
        }
    }
    let mut ranges = Vec::with_capacity(metadata.num_row_groups() * leaves.len());
    for group in metadata.row_groups() {
        for &leaf in leaves {
            let Some(range) = chunk_range(group.column(leaf), size) else {
                return Err(DecodingError::new(
                    "it declares a column that is not inside the file. It is damaged, or is still being written",
                ));
            };
            ranges.push((range.start, range.end));
        }
    }
    ranges.retain(|(start, end)| start < end);
    ranges.sort_unstable();
    match ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        true => Err(DecodingError::new("it declares columns that overlap")),
        false => Ok(()),
    }
}

/// Returns the byte range of a column chunk, or `None` if it is not inside the file.
pub(super) fn chunk_range(chunk: &ColumnChunkMetaData, size: u64) -> Option<Range<u64>> {
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or(chunk.data_page_offset());
    let start = u64::try_from(start).ok()?;
    let length = u64::try_from(chunk.compressed_size()).ok()?;
    let end = start.checked_add(length)?;
    (end <= size).then_some(start..end)
}

/// A range of bytes with all page indexes, already fetched.
struct FetchedIndexes {
    start: u64,
    bytes: Bytes,
}

impl MetadataFetch for &mut FetchedIndexes {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let part = |range: Range<u64>| {
            let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
            let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
            (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
        };
        let part = part(range).ok_or_else(|| ParquetError::EOF("no such page index".to_owned()));
        async move { part }.boxed()
    }
}

/// Returns the footer with the page indexes, or `None` if there are none that can be used.
pub(super) async fn read_page_index(
    pinned: &mut PinnedFile,
    metadata: &ParquetMetaData,
    leaves: &[usize],
    file: &RawFile,
) -> Result<Option<ParquetMetaData>, RawFileError> {
    let fault = |error: ParquetError| RawFileError::from_parquet_error(&file.path, &error);
    let Some((range, parts)) = index_ranges(metadata, file.size) else {
        return Ok(None);
    };
    let bytes = pinned.get_bytes(range.clone()).await.map_err(fault)?;
    let mut elements = 0;
    for (is_offsets, part) in parts {
        let from = usize::try_from(part.start - range.start).unwrap_or(usize::MAX);
        let to = usize::try_from(part.end - range.start).unwrap_or(usize::MAX);
        let part = bytes.get(from..to).unwrap_or_default();
        match check_index(part, is_offsets) {
            Ok(count) => elements += count,
            Err(_) => return Ok(None),
        }
        if elements > MAX_INDEX_ELEMENTS {
            return Ok(None);
        }
    }
    let mut fetched = FetchedIndexes {
        start: range.start,
        bytes,
    };
    let plain = ParquetMetaData::clone(metadata);
    let mut reader = ParquetMetaDataReader::new_with_metadata(plain)
        .with_page_index_policy(PageIndexPolicy::Optional);
    reader.load_page_index(&mut fetched).await.map_err(fault)?;
    let indexed = reader.finish().map_err(fault)?;
    Ok(are_pages_inside(&indexed, leaves, file.size).then_some(indexed))
}

type IndexRanges = (Range<u64>, Vec<(bool, Range<u64>)>);

/// Returns the byte range of all indexes together, and the range of each with a flag that is true for an offset index.
/// Returns `None` if there are none, or if they cannot be used.
fn index_ranges(metadata: &ParquetMetaData, size: u64) -> Option<IndexRanges> {
    let mut parts = Vec::new();
    for chunk in metadata.row_groups().iter().flat_map(|it| it.columns()) {
        let places = [
            (
                false,
                chunk.column_index_offset(),
                chunk.column_index_length(),
            ),
            (
                true,
                chunk.offset_index_offset(),
                chunk.offset_index_length(),
            ),
        ];
        for (is_offsets, offset, length) in places {
            let (Some(offset), Some(length)) = (offset, length) else {
                continue;
            };
            let start = u64::try_from(offset).ok()?;
            let end = start.checked_add(u64::try_from(length).ok()?)?;
            if end > size {
                return None;
            }
            parts.push((is_offsets, start..end));
        }
    }
    let start = parts.iter().map(|(_, part)| part.start).min()?;
    let end = parts.iter().map(|(_, part)| part.end).max()?;
    (end - start <= MAX_INDEX_BYTES).then_some((start..end, parts))
}

/// Checks the structure of an index and returns its number of elements.
fn check_index(bytes: &[u8], is_offsets: bool) -> Result<usize, DecodingError> {
    let mut elements = 0;
    let mut reader = Reader::new(bytes);
    reader.visit_struct(|reader, id, kind| {
        let count = match (is_offsets, id) {
            (true, 1) => {
                expect_type(kind, Type::List)?;
                reader.skip_list(Type::Struct)?
            }
            (true, 2) | (false, 5..=7) => {
                expect_type(kind, Type::List)?;
                reader.skip_list(Type::I64)?
            }
            (false, 1) => {
                expect_type(kind, Type::List)?;
                reader.skip_list_of_bools()?
            }
            (false, 2 | 3) => {
                expect_type(kind, Type::List)?;
                reader.skip_list(Type::Binary)?
            }
            _ => return Ok(false),
        };
        elements += count;
        Ok(true)
    })?;
    Ok(elements)
}

/// Whether all pages lie inside their chunks without overlapping, and begin at rows that exist, in ascending order.
fn are_pages_inside(metadata: &ParquetMetaData, leaves: &[usize], size: u64) -> bool {
    let Some(index) = metadata.offset_index() else {
        return true;
    };
    metadata
        .row_groups()
        .iter()
        .zip(index)
        .all(|(group, of_group)| {
            leaves.iter().all(|&leaf| {
                let Some(of_column) = of_group.get(leaf) else {
                    return true;
                };
                let Some(chunk) = chunk_range(group.column(leaf), size) else {
                    return false;
                };
                let (mut byte, mut row) = (chunk.start, 0);
                of_column.page_locations().iter().all(|page| {
                    let start = u64::try_from(page.offset).unwrap_or(0);
                    let length = u64::try_from(page.compressed_page_size).unwrap_or(u64::MAX);
                    let end = start.saturating_add(length);
                    let first = page.first_row_index;
                    let is_inside = start >= byte
                        && end <= chunk.end
                        && first >= row
                        && first <= group.num_rows();
                    (byte, row) = (end, first);
                    is_inside
                })
            })
        })
}
