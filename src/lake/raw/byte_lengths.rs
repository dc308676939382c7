//! Checks the lengths of texts in pages that must be decompressed to know them.
//!
//! Two encodings (DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY) declare the number of values of a page a second time,
//! in its data. Values that share prefixes can together be far longer than the page. So can the values of a dictionary
//! with one long value, if every row refers to it.

use std::sync::Arc;

use bytes::Bytes;
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::error::first_line;
use super::page_header::{Chunk, PageDeclaration};
use crate::decoding::DecodingError;

/// The maximum length in bytes of a value in a large dictionary. A batch of 16,384 rows with one such value has 256
/// MiB.
const MAX_DICTIONARY_VALUE_BYTES: usize = 16 << 10;
/// The maximum mean size of ids in a page, in bytes.
pub(super) const MAX_MEAN_ID_BYTES: u64 = 1 << 10;
/// The maximum number of values in a page with encoded lengths.
const MAX_LENGTHS: u64 = 4 << 20;

fn damaged() -> DecodingError {
    DecodingError::new("it has a damaged page")
}

/// Checks one page. `page` includes the header.
pub(super) fn check_page_lengths(
    page: &Bytes,
    header: &PageDeclaration,
    chunk: &Chunk,
) -> Result<(), DecodingError> {
    let page = decompressed(page, chunk)?;
    let values = match &page {
        Page::DictionaryPage { buf, .. } => return check_dictionary(buf),
        Page::DataPage { buf, .. } => skip_levels(buf, chunk)?,
        Page::DataPageV2 {
            buf,
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => {
            let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
            let levels = usize::try_from(levels).map_err(|_| damaged())?;
            buf.get(levels..).ok_or_else(damaged)?
        }
    };
    let declared = u64::try_from(header.values).unwrap_or(0);
    let mut total: u64 = 0;
    let (first, rest) = sum_of_lengths(values, declared)?;
    total = total.saturating_add(first);
    if header.has_prefixes() {
        let (suffixes, _) = sum_of_lengths(rest, declared)?;
        total = total.saturating_add(suffixes);
    }
    let allowed = declared
        .saturating_mul(MAX_MEAN_ID_BYTES)
        .saturating_add(4_096);
    match total > allowed {
        true => Err(DecodingError::new(format!(
            "it has a page whose {declared} texts have {total} bytes; an asset's id has 36"
        ))),
        false => Ok(()),
    }
}

fn decompressed(page: &Bytes, chunk: &Chunk) -> Result<Page, DecodingError> {
    let length = i64::try_from(page.len()).map_err(|_| damaged())?;
    let read = || {
        let alone = ColumnChunkMetaData::builder(Arc::clone(&chunk.column))
            .set_compression(chunk.compression)
            .set_data_page_offset(0)
            .set_total_compressed_size(length)
            .build()?;
        let reader = Arc::new(page.clone());
        SerializedPageReader::new(reader, &alone, 0, None)?.get_next_page()
    };
    // The library reports any other damage when it reads the file.
    read()
        .map_err(|error| DecodingError::new(first_line(&error.to_string())))?
        .ok_or_else(damaged)
}

fn check_dictionary(values: &[u8]) -> Result<(), DecodingError> {
    let mut rest = values;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
        if length > MAX_DICTIONARY_VALUE_BYTES {
            return Err(DecodingError::new(format!(
                "it has a text of {length} bytes among its ids; an asset's id has 36"
            )));
        }
        rest = after.get(length..).ok_or_else(damaged)?;
    }
    Ok(())
}

/// Returns the data after the levels of a page of version 1. Columns are not nested, so there are only definition
/// levels.
fn skip_levels<'a>(page: &'a [u8], chunk: &Chunk) -> Result<&'a [u8], DecodingError> {
    if chunk.column.max_rep_level() > 0 {
        return Err(DecodingError::new("its columns are nested"));
    }
    if chunk.column.max_def_level() == 0 {
        return Ok(page);
    }
    let (length, rest) = page.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
    rest.get(length..).ok_or_else(damaged)
}

/// Returns the sum of lengths in DELTA_BINARY_PACKED encoding, and the bytes after them. Fails if there are more than
/// `declared` lengths.
fn sum_of_lengths(bytes: &[u8], declared: u64) -> Result<(u64, &[u8]), DecodingError> {
    let mut rest = bytes;
    let block = read_varint(&mut rest)?;
    let parts = read_varint(&mut rest)?;
    let count = read_varint(&mut rest)?;
    let first = read_varint(&mut rest)?;
    if count > declared.min(MAX_LENGTHS) {
        return Err(DecodingError::new(format!(
            "it has a page of {declared} texts whose data declares {count}"
        )));
    }
    // No writer uses larger blocks.
    let is_usual = (1..=1 << 16).contains(&block) && (1..=block).contains(&parts);
    if !is_usual || block % parts != 0 || (block / parts) % 32 != 0 {
        return Err(damaged());
    }
    let each = usize::try_from(block / parts).map_err(|_| damaged())?;
    let mut value = decode_zigzag(first);
    let (mut sum, mut left) = (0_u64, count);
    if left > 0 {
        sum = to_length(value)?;
        left -= 1;
    }
    while left > 0 {
        let least = decode_zigzag(read_varint(&mut rest)?);
        let parts = usize::try_from(parts).map_err(|_| damaged())?;
        let (widths, after) = rest.split_at_checked(parts).ok_or_else(damaged)?;
        rest = after;
        for &width in widths {
            if left == 0 {
                break;
            }
            if width > 32 {
                return Err(damaged());
            }
            let width = usize::from(width);
            let (packed, after) = rest
                .split_at_checked(each * width / 8)
                .ok_or_else(damaged)?;
            rest = after;
            for index in 0..each.min(usize::try_from(left).unwrap_or(usize::MAX)) {
                let difference = read_bits(packed, index * width, width).wrapping_add(least);
                // Lengths are 32-bit integers, and their arithmetic wraps.
                value = i64::from((value.wrapping_add(difference)) as i32);
                sum = sum.saturating_add(to_length(value)?);
                left -= 1;
            }
        }
    }
    Ok((sum, rest))
}

fn to_length(value: i64) -> Result<u64, DecodingError> {
    u64::try_from(value).map_err(|_| DecodingError::new("it has a text of a negative length"))
}

/// Returns `width` bits from the bit `at`, least significant bit first.
fn read_bits(packed: &[u8], at: usize, width: usize) -> i64 {
    let mut value: i64 = 0;
    for index in 0..width {
        let bit = at + index;
        let byte = packed.get(bit / 8).copied().unwrap_or(0);
        value |= i64::from(byte >> (bit % 8) & 1) << index;
    }
    value
}

fn read_varint(rest: &mut &[u8]) -> Result<u64, DecodingError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or_else(damaged)?;
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged())
}

fn decode_zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
