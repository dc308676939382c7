//! Reads the headers of pages.

use parquet::basic::Compression;
use parquet::schema::types::ColumnDescPtr;

use super::thrift::{Reader, Type, expect_type};
use crate::decoding::DecodingError;

/// Page types of the Parquet format.
pub(super) const DATA: i32 = 0;
pub(super) const INDEX: i32 = 1;
pub(super) const DICTIONARY: i32 = 2;
pub(super) const DATA_V2: i32 = 3;
/// Encodings whose data declares the number of values and their lengths.
pub(super) const DELTA_LENGTH_BYTE_ARRAY: i32 = 6;
pub(super) const DELTA_BYTE_ARRAY: i32 = 7;

/// The properties of the column chunk whose pages are checked.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub column: ColumnDescPtr,
    pub compression: Compression,
    /// The number of rows in its row group.
    pub rows: u64,
}

/// The declarations in a page's header.
#[derive(Debug, Default, Clone)]
pub(super) struct PageDeclaration {
    pub kind: i32,
    pub uncompressed: i32,
    pub compressed: i32,
    pub values: i32,
    pub encoding: i32,
    /// The number of bytes of uncompressed levels in a page of version 2.
    pub levels: i64,
    pub is_v2: bool,
    pub is_stored: bool,
    /// The CRC-32 of the page as it is stored, if its writer computed one.
    pub checksum: Option<u32>,
}

impl PageDeclaration {
    /// Whether the values share prefixes.
    pub fn has_prefixes(&self) -> bool {
        self.encoding == DELTA_BYTE_ARRAY
    }
}

/// Reads the header of a page.
pub(super) fn read_header(reader: &mut Reader<'_>) -> Result<PageDeclaration, DecodingError> {
    let mut header = PageDeclaration::default();
    // The sub-headers by page type. A header may contain all of them in any order; the one of the page's own type
    // applies.
    let mut parts: [Option<PageDeclaration>; 4] = [const { None }; 4];
    reader.visit_struct(|reader, id, kind| {
        match id {
            1..=4 => {
                expect_type(kind, Type::I32)?;
                let number = reader.read_i32()?;
                match id {
                    1 => header.kind = number,
                    2 => header.uncompressed = number,
                    3 => header.compressed = number,
                    _ => header.checksum = Some(number.cast_unsigned()),
                }
            }
            5..=8 => {
                expect_type(kind, Type::Struct)?;
                let belongs = match id {
                    5 => DATA,
                    6 => INDEX,
                    7 => DICTIONARY,
                    _ => DATA_V2,
                };
                let part = read_sub_header(reader, belongs == DATA_V2)?;
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
    // The library uses this sub-header whatever the page's type is.
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

fn read_sub_header(reader: &mut Reader<'_>, is_v2: bool) -> Result<PageDeclaration, DecodingError> {
    let mut part = PageDeclaration::default();
    reader.visit_struct(|reader, id, kind| {
        match (is_v2, id) {
            (_, 1) | (false, 2) | (true, 4) => {
                expect_type(kind, Type::I32)?;
                let number = reader.read_i32()?;
                match id {
                    1 => part.values = number,
                    _ => part.encoding = number,
                }
            }
            (true, 2 | 3) => {
                expect_type(kind, Type::I32)?;
                if reader.read_i32()? < 0 {
                    return Err(negative_count("rows"));
                }
            }
            (true, 5 | 6) => {
                expect_type(kind, Type::I32)?;
                let bytes = reader.read_i32()?;
                if bytes < 0 {
                    return Err(negative_count("bytes of levels"));
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

/// Returns the error of a header that declares a negative number of something.
pub(super) fn negative_count(of: &str) -> DecodingError {
    DecodingError::new(format!("it declares a page with a negative number of {of}"))
}
