//! Checks the pages of column chunks after they are fetched and before the Parquet library decompresses them.
//!
//! The library allocates the size that a page's header declares, creates as many dictionary values as the header
//! declares, and does not limit the output of some codecs. A page that passes these checks has at most
//! [`MAX_PAGE_BYTES`] when it is decompressed, and no batch of its rows is much longer.

use std::io::Read;

use bytes::Bytes;
use flate2::Crc;
use parquet::basic::{Compression, Type as PhysicalType};

use super::byte_lengths::{self, MAX_MEAN_ID_BYTES};
use super::page_header::{
    Chunk, DATA, DATA_V2, DELTA_BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY, DICTIONARY, INDEX,
    PageDeclaration, negative_count, read_header,
};
use super::thrift::Reader;
use crate::decoding::{DecodingError, lz4};

/// The maximum size in bytes of a decompressed page.
const MAX_PAGE_BYTES: u64 = 128 << 20;
/// The number of bytes that a page may have in addition to its values.
const SLACK_BYTES: u64 = 4 << 10;
/// The maximum number of bytes of a page for each value of a fixed size, including levels and padding.
const MAX_FIXED_BYTES: u64 = 96;
/// The maximum size in bytes of a dictionary of ids whose values are not checked. The values of a larger one are
/// checked, because one of them may be very long.
const MAX_UNCHECKED_DICTIONARY_BYTES: u64 = 64 << 10;
/// The size in bytes of the buffer for decompressing data to measure it.
const SCRATCH_BYTES: usize = 64 << 10;
/// The maximum number of bytes that one byte of deflated data can produce.
const MAX_DEFLATE_RATIO: u64 = 1_032;

/// Checks the pages in `bytes`. If `is_one_page`, the range comes from a page index and must contain exactly one page.
pub(super) fn check_pages(
    bytes: &Bytes,
    chunk: &Chunk,
    is_one_page: bool,
) -> Result<(), DecodingError> {
    let mut at = 0;
    let mut rows: u64 = 0;
    while at < bytes.len() {
        let mut reader = Reader::new(&bytes[at..]);
        let header = read_header(&mut reader)?;
        let begins = bytes.len() - reader.remaining();
        let length = usize::try_from(header.compressed).ok();
        let page = length.and_then(|length| bytes.get(begins..begins.checked_add(length)?));
        let Some(page) = page else {
            return Err(DecodingError::new(format!(
                "it declares a page of {} bytes where {} are left. It is damaged, or is still being written",
                header.compressed,
                bytes.len() - begins
            )));
        };
        let ends = begins + page.len();
        if is_one_page && ends != bytes.len() {
            // The library uses the page boundaries of the index and ignores those of the page headers.
            return Err(DecodingError::new(
                "its page index and its pages have different page boundaries",
            ));
        }
        check_sum(&header, page)?;
        if header.kind == DATA || header.kind == DATA_V2 {
            let values = u64::try_from(header.values).map_err(|_| negative_count("values"))?;
            rows = rows.saturating_add(values);
            if rows > chunk.rows {
                return Err(DecodingError::new(format!(
                    "its pages have {rows} values or more, in a row group of {} rows",
                    chunk.rows
                )));
            }
        }
        let size = decoded_size(&header, page, chunk)?;
        if header.kind != INDEX {
            check_values(&header, size, chunk)?;
            if has_hidden_lengths(&header, size, chunk) {
                byte_lengths::check_page_lengths(&bytes.slice(at..ends), &header, chunk)?;
            }
        }
        at = ends;
    }
    Ok(())
}

/// Checks the page against the checksum that its writer computed, if there is one.
fn check_sum(header: &PageDeclaration, page: &[u8]) -> Result<(), DecodingError> {
    let Some(declared) = header.checksum else {
        return Ok(());
    };
    let mut computed = Crc::new();
    computed.update(page);
    match computed.sum() == declared {
        true => Ok(()),
        false => Err(DecodingError::new(
            "it has a page whose bytes do not match the checksum in its header. It is damaged",
        )),
    }
}

/// Returns the size of a page when it is decompressed, including levels.
fn decoded_size(
    header: &PageDeclaration,
    page: &[u8],
    chunk: &Chunk,
) -> Result<u64, DecodingError> {
    let declared = u64::try_from(header.uncompressed).map_err(|_| negative_count("bytes"))?;
    let is_stored = header.is_v2 && header.is_stored;
    if is_stored || chunk.compression == Compression::UNCOMPRESSED {
        // The page is not compressed.
        return Ok(page.len() as u64);
    }
    let too_large = |bytes: u64| {
        DecodingError::new(format!(
            "it has a page of {bytes} bytes, and the limit is {MAX_PAGE_BYTES}; write it with smaller pages"
        ))
    };
    if declared > MAX_PAGE_BYTES {
        return Err(too_large(declared));
    }
    let levels = usize::try_from(header.levels).unwrap_or(usize::MAX);
    let data = page.get(levels..).unwrap_or_default();
    let allowed = declared.saturating_sub(levels as u64);
    let differs = || {
        DecodingError::new(format!(
            "it declares a page of {declared} decompressed bytes, but its data has another length"
        ))
    };
    // The maximum number of bytes that one byte of data can produce.
    let ratio = match chunk.compression {
        Compression::SNAPPY => 32,
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        Compression::GZIP(_) => MAX_DEFLATE_RATIO,
        // A block of 4 bytes can produce 128 KiB.
        Compression::ZSTD(_) => 1 << 16,
        _ => u64::MAX,
    };
    if allowed > (data.len() as u64 + 64).saturating_mul(ratio) {
        return Err(differs());
    }
    // The library does not limit the output of these codecs.
    match chunk.compression {
        Compression::GZIP(_)
            if (data.len() as u64).saturating_mul(MAX_DEFLATE_RATIO) > MAX_PAGE_BYTES =>
        {
            check_length(flate2::read::MultiGzDecoder::new(data), allowed)?;
        }
        Compression::BROTLI(_) => {
            // A stream that starts with these bits has a window of more than 16 MiB, which is not part of the standard.
            if data.first().is_some_and(|first| first & 0x7F == 0x11) {
                return Err(differs());
            }
            check_length(brotli::Decompressor::new(data, 4_096), allowed)?;
        }
        Compression::LZ4 => {
            if let Ok(actual) = lz4::frame_content_length(data)
                && actual > allowed
            {
                return Err(differs());
            }
        }
        _ => {}
    }
    Ok(declared)
}

/// Fails if a decoder produces more than `allowed` bytes. The output is discarded.
fn check_length(decoder: impl Read, allowed: u64) -> Result<(), DecodingError> {
    let mut decoder = decoder.take(allowed + 1);
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut length: u64 = 0;
    // The library reports damaged data itself.
    while let Ok(read @ 1..) = decoder.read(&mut scratch) {
        length += read as u64;
    }
    match length > allowed {
        true => Err(DecodingError::new(format!(
            "it declares a page of {allowed} decompressed bytes, but there are more"
        ))),
        false => Ok(()),
    }
}

/// Checks the number of values against the size of the page.
fn check_values(header: &PageDeclaration, size: u64, chunk: &Chunk) -> Result<(), DecodingError> {
    let values = u64::try_from(header.values).map_err(|_| negative_count("values"))?;
    let width = match chunk.column.physical_type() {
        PhysicalType::BOOLEAN => 0,
        PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            u64::try_from(chunk.column.type_length()).unwrap_or(0)
        }
    };
    if header.kind == DICTIONARY && values.saturating_mul(width) > size {
        return Err(DecodingError::new(format!(
            "it declares a dictionary of {values} values in {size} bytes"
        )));
    }
    let (max_bytes, of) = match chunk.column.physical_type() {
        PhysicalType::BYTE_ARRAY => (MAX_MEAN_ID_BYTES, "texts"),
        _ => (MAX_FIXED_BYTES, "numbers"),
    };
    let allowed = values.saturating_mul(max_bytes).saturating_add(SLACK_BYTES);
    match size > allowed {
        true => Err(DecodingError::new(format!(
            "it has a page of {size} bytes for {values} {of}; an asset's id has 36"
        ))),
        false => Ok(()),
    }
}

/// Whether the lengths of the values can only be known from the page's data.
fn has_hidden_lengths(header: &PageDeclaration, size: u64, chunk: &Chunk) -> bool {
    let kind = chunk.column.physical_type();
    if header.kind == DICTIONARY {
        return kind == PhysicalType::BYTE_ARRAY && size > MAX_UNCHECKED_DICTIONARY_BYTES;
    }
    let is_bytes = [PhysicalType::BYTE_ARRAY, PhysicalType::FIXED_LEN_BYTE_ARRAY].contains(&kind);
    is_bytes && [DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY].contains(&header.encoding)
}
