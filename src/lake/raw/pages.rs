//! Checks the pages of column chunks after they were fetched, and before the Parquet library decompresses them.
//!
//! The library allocates what a page's header declares, gives a dictionary as many values as its header declares, and lets
//! some codecs produce as much as they like. A page that passes here is at most [`MAX_PAGE_BYTES`] long when it is
//! decompressed, and no batch of it is much longer.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::{Compression, Type as PhysicalType};
use parquet::schema::types::ColumnDescPtr;

use super::byte_lengths;
use super::thrift::{Reader, Type, expect};
use crate::decoding::{Implausible, lz4};

/// The maximum size of a page when it is decompressed.
const MAX_PAGE_BYTES: u64 = 128 << 20;
/// The maximum average size of ids in a page, in bytes.
pub(super) const MAX_MEAN_ID_BYTES: u64 = 1 << 10;
/// Bytes of a page that are allowed beside its values.
const SLACK_BYTES: u64 = 4 << 10;
/// Bytes of a page for each value of a fixed size, levels and padding included.
const MAX_FIXED_BYTES: u64 = 96;
/// Dictionaries of ids that are larger are looked into: values of different lengths may be in them.
const MAX_UNREAD_DICTIONARY_BYTES: u64 = 64 << 10;
/// How much is decompressed at once to count it.
const COUNTED_BYTES: usize = 64 << 10;
/// How long deflated data can be at most for each byte of it.
const MAX_DEFLATE_RATIO: u64 = 1_032;

/// What is known of the column chunk whose pages are checked.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub column: ColumnDescPtr,
    pub compression: Compression,
    /// Rows of its row group.
    pub rows: u64,
}

/// What a page's header declares.
#[derive(Debug, Default, Clone)]
pub(super) struct Header {
    kind: i32,
    uncompressed: i32,
    compressed: i32,
    pub values: i32,
    encoding: i32,
    /// Bytes of levels that are not compressed, of the second version.
    levels: i64,
    is_v2: bool,
    is_stored: bool,
}

/// Kinds of pages.
const DATA: i32 = 0;
const INDEX: i32 = 1;
const DICTIONARY: i32 = 2;
const DATA_V2: i32 = 3;
/// Encodings whose data declares numbers of values and lengths.
const DELTA_LENGTH_BYTE_ARRAY: i32 = 6;
const DELTA_BYTE_ARRAY: i32 = 7;

/// Checks the pages that `bytes` consist of; one, if they are what an index says of a page.
pub(super) fn check_pages(
    bytes: &Bytes,
    chunk: &Chunk,
    is_one_page: bool,
) -> Result<(), Implausible> {
    let mut at = 0;
    let mut rows: u64 = 0;
    while at < bytes.len() {
        let mut reader = Reader::new(&bytes[at..]);
        let header = read_header(&mut reader)?;
        let begins = bytes.len() - reader.remaining();
        let length = usize::try_from(header.compressed).ok();
        let page = length.and_then(|length| bytes.get(begins..begins.checked_add(length)?));
        let Some(page) = page else {
            return Err(Implausible::new(format!(
                "it declares a page of {} bytes where {} are left. It is damaged, or is still being written",
                header.compressed,
                bytes.len() - begins
            )));
        };
        let ends = begins + page.len();
        if is_one_page && ends != bytes.len() {
            // The library takes what an index says for the page, and not what the page's header says.
            return Err(Implausible::new(
                "its page index and its pages differ in where pages end",
            ));
        }
        if header.kind == DATA || header.kind == DATA_V2 {
            let values = u64::try_from(header.values).map_err(|_| negative("values"))?;
            rows = rows.saturating_add(values);
            if rows > chunk.rows {
                return Err(Implausible::new(format!(
                    "its pages have {rows} values or more, in a row group of {} rows",
                    chunk.rows
                )));
            }
        }
        let size = decoded_size(&header, page, chunk)?;
        if header.kind != INDEX {
            check_values(&header, size, chunk)?;
            if is_looked_into(&header, size, chunk) {
                byte_lengths::check(&bytes.slice(at..ends), &header, chunk)?;
            }
        }
        at = ends;
    }
    Ok(())
}

fn read_header(reader: &mut Reader<'_>) -> Result<Header, Implausible> {
    let mut header = Header::default();
    // The parts of each kind of page; all may be there, in any order, and that of the page's kind counts.
    let mut parts: [Option<Header>; 4] = [const { None }; 4];
    reader.structure(|reader, id, kind| {
        match id {
            1..=3 => {
                expect(kind, Type::I32)?;
                let number = reader.i32()?;
                match id {
                    1 => header.kind = number,
                    2 => header.uncompressed = number,
                    _ => header.compressed = number,
                }
            }
            5..=8 => {
                expect(kind, Type::Struct)?;
                let belongs = match id {
                    5 => DATA,
                    6 => INDEX,
                    7 => DICTIONARY,
                    _ => DATA_V2,
                };
                let part = read_part(reader, belongs == DATA_V2)?;
                if let Some(place) = usize::try_from(belongs)
                    .ok()
                    .and_then(|at| parts.get_mut(at))
                {
                    *place = Some(part);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // The library goes by this part whatever the kind of the page is.
    if let [.., Some(part)] = &parts {
        header.is_v2 = true;
        (header.levels, header.is_stored) = (part.levels, part.is_stored);
    }
    let own = usize::try_from(header.kind)
        .ok()
        .and_then(|at| parts.get(at));
    if let Some(Some(part)) = own {
        (header.values, header.encoding) = (part.values, part.encoding);
    }
    Ok(header)
}

fn read_part(reader: &mut Reader<'_>, is_v2: bool) -> Result<Header, Implausible> {
    let mut part = Header::default();
    reader.structure(|reader, id, kind| {
        match (is_v2, id) {
            (_, 1) | (false, 2) | (true, 4) => {
                expect(kind, Type::I32)?;
                let number = reader.i32()?;
                match id {
                    1 => part.values = number,
                    _ => part.encoding = number,
                }
            }
            (true, 2 | 3) => {
                expect(kind, Type::I32)?;
                if reader.i32()? < 0 {
                    return Err(negative("rows"));
                }
            }
            (true, 5 | 6) => {
                expect(kind, Type::I32)?;
                let bytes = reader.i32()?;
                if bytes < 0 {
                    return Err(negative("bytes of levels"));
                }
                part.levels += i64::from(bytes);
            }
            (true, 7) => part.is_stored = kind == Type::False,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(part)
}

fn negative(of: &str) -> Implausible {
    Implausible::new(format!("it declares a page with a negative number of {of}"))
}

/// The size of a page when it is decompressed, levels included.
fn decoded_size(header: &Header, page: &[u8], chunk: &Chunk) -> Result<u64, Implausible> {
    let declared = u64::try_from(header.uncompressed).map_err(|_| negative("bytes"))?;
    let is_stored = header.is_v2 && header.is_stored;
    if is_stored || chunk.compression == Compression::UNCOMPRESSED {
        // It is used as it is.
        return Ok(page.len() as u64);
    }
    let too_large = |bytes: u64| {
        Implausible::new(format!(
            "it has a page of {bytes} bytes, and at most {MAX_PAGE_BYTES} are read; write it with smaller pages"
        ))
    };
    if declared > MAX_PAGE_BYTES {
        return Err(too_large(declared));
    }
    let levels = usize::try_from(header.levels).unwrap_or(usize::MAX);
    let data = page.get(levels..).unwrap_or_default();
    let allowed = declared.saturating_sub(levels as u64);
    let differs = || {
        Implausible::new(format!(
            "it declares a page of {declared} bytes, decompressed, and its data is for another length"
        ))
    };
    // How long the data is at most for each byte of it.
    let ratio = match chunk.compression {
        Compression::SNAPPY => 32,
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        Compression::GZIP(_) => MAX_DEFLATE_RATIO,
        // 4 bytes can stand for 128 KiB.
        Compression::ZSTD(_) => 1 << 16,
        _ => u64::MAX,
    };
    if allowed > (data.len() as u64 + 64).saturating_mul(ratio) {
        return Err(differs());
    }
    // The library lets these produce as much as they like.
    match chunk.compression {
        Compression::GZIP(_)
            if (data.len() as u64).saturating_mul(MAX_DEFLATE_RATIO) > MAX_PAGE_BYTES =>
        {
            check_length(flate2::read::MultiGzDecoder::new(data), allowed)?;
        }
        Compression::BROTLI(_) => {
            // A window of more than 16 MiB begins with these bits, and belongs to no standard.
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

/// Fails if more than `allowed` bytes come out of a decoder. Nothing is kept.
fn check_length(decoder: impl Read, allowed: u64) -> Result<(), Implausible> {
    let mut decoder = decoder.take(allowed + 1);
    let mut scratch = vec![0; COUNTED_BYTES];
    let mut length: u64 = 0;
    // What is damaged is found by the library, too.
    while let Ok(read @ 1..) = decoder.read(&mut scratch) {
        length += read as u64;
    }
    match length > allowed {
        true => Err(Implausible::new(format!(
            "it declares a page of {allowed} bytes, decompressed, and there are more"
        ))),
        false => Ok(()),
    }
}

/// Compares the number of values with the size of the page.
fn check_values(header: &Header, size: u64, chunk: &Chunk) -> Result<(), Implausible> {
    let values = u64::try_from(header.values).map_err(|_| negative("values"))?;
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
        return Err(Implausible::new(format!(
            "it declares a dictionary of {values} values in {size} bytes"
        )));
    }
    let (most, of) = match chunk.column.physical_type() {
        PhysicalType::BYTE_ARRAY => (MAX_MEAN_ID_BYTES, "texts"),
        _ => (MAX_FIXED_BYTES, "numbers"),
    };
    let allowed = values.saturating_mul(most).saturating_add(SLACK_BYTES);
    match size > allowed {
        true => Err(Implausible::new(format!(
            "it has a page of {size} bytes for {values} {of}; an asset's id has 36"
        ))),
        false => Ok(()),
    }
}

/// Whether it takes the page's data to know how long its values are.
fn is_looked_into(header: &Header, size: u64, chunk: &Chunk) -> bool {
    let kind = chunk.column.physical_type();
    if header.kind == DICTIONARY {
        return kind == PhysicalType::BYTE_ARRAY && size > MAX_UNREAD_DICTIONARY_BYTES;
    }
    let is_bytes = [PhysicalType::BYTE_ARRAY, PhysicalType::FIXED_LEN_BYTE_ARRAY].contains(&kind);
    is_bytes && [DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY].contains(&header.encoding)
}

impl Header {
    /// Whether the values share prefixes.
    pub fn has_prefixes(&self) -> bool {
        self.encoding == DELTA_BYTE_ARRAY
    }
}
