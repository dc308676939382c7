//! Walks structures in Thrift's compact protocol, which encodes Parquet's footers, indexes and page headers.
//!
//! The Parquet library allocates memory by the declared lengths of lists before it reads them, and iterates over some
//! lists whose elements take no bytes. So the bytes are checked first: a list must not have more elements than there
//! are bytes left, and a field must have the type that the library assumes.

use crate::decoding::DecodingError;

/// The maximum nesting of structures.
const MAX_DEPTH: usize = 16;
/// The maximum number of elements of a list in an unknown field.
const MAX_ELEMENTS: usize = 1 << 16;

/// A type of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    True,
    False,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List,
    Set,
    Map,
    Struct,
    Uuid,
}

impl Type {
    fn from_bits(bits: u8) -> Result<Self, DecodingError> {
        Ok(match bits {
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4 => Self::I16,
            5 => Self::I32,
            6 => Self::I64,
            7 => Self::Double,
            8 => Self::Binary,
            9 => Self::List,
            10 => Self::Set,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return Err(damaged()),
        })
    }
}

/// A reader over encoded bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

fn damaged() -> DecodingError {
    DecodingError::new("its metadata is damaged")
}

impl<'a> Reader<'a> {
    /// Creates a reader over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the number of bytes that are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn read_byte(&mut self) -> Result<u8, DecodingError> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(byte)
    }

    fn read_varint(&mut self) -> Result<u64, DecodingError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.read_byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// Reads an integer of 16, 32 or 64 bits.
    pub fn read_integer(&mut self) -> Result<i64, DecodingError> {
        let value = self.read_varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Reads an integer of 32 bits, with the library's range.
    pub fn read_i32(&mut self) -> Result<i32, DecodingError> {
        let value = self.read_integer()?;
        i32::try_from(value).map_err(|_| damaged())
    }

    /// Skips `bytes` bytes.
    pub fn advance(&mut self, bytes: usize) -> Result<(), DecodingError> {
        self.rest = self.rest.get(bytes..).ok_or_else(damaged)?;
        Ok(())
    }

    /// Walks a structure. `visit` is called with each field's id and type. If it returns true, it has read the field;
    /// otherwise the field is skipped.
    pub fn visit_struct(
        &mut self,
        mut visit: impl FnMut(&mut Self, i16, Type) -> Result<bool, DecodingError>,
    ) -> Result<(), DecodingError> {
        let mut id = 0_i16;
        loop {
            let header = self.read_byte()?;
            if header & 15 == 0 {
                return Ok(());
            }
            let kind = Type::from_bits(header & 15)?;
            id = match header >> 4 {
                0 => i16::try_from(self.read_integer()?).map_err(|_| damaged())?,
                delta => id.checked_add(i16::from(delta)).ok_or_else(damaged)?,
            };
            if !visit(self, id, kind)? {
                self.skip(kind, MAX_DEPTH)?;
            }
        }
    }

    /// Reads the header of a list: the type of its elements and their number. Fails if fewer bytes are left, because
    /// each element takes at least one byte.
    pub fn read_list_header(&mut self) -> Result<(Type, usize), DecodingError> {
        let header = self.read_byte()?;
        // Some writers omit the element type of an empty list.
        if header == 0 {
            return Ok((Type::Byte, 0));
        }
        // The element type of a list of booleans may be encoded as either of two types.
        let kind = match Type::from_bits(header & 15)? {
            Type::True => Type::False,
            kind => kind,
        };
        let count = match header >> 4 {
            15 => usize::try_from(self.read_varint()?).map_err(|_| damaged())?,
            count => usize::from(count),
        };
        if count > self.rest.len() {
            return Err(DecodingError::new(format!(
                "its metadata declares a list of {count} elements, and has {} bytes left",
                self.rest.len()
            )));
        }
        Ok((kind, count))
    }

    /// Reads the header of a list of structures and returns the number of elements.
    pub fn read_struct_list_header(&mut self) -> Result<usize, DecodingError> {
        match self.read_list_header()? {
            (Type::Struct, count) | (_, count @ 0) => Ok(count),
            _ => Err(damaged()),
        }
    }

    /// Skips a field of a structure.
    pub fn skip(&mut self, kind: Type, depth: usize) -> Result<(), DecodingError> {
        if depth == 0 {
            return Err(DecodingError::new(format!(
                "its metadata is nested more than {MAX_DEPTH} levels deep"
            )));
        }
        match kind {
            Type::True | Type::False => Ok(()),
            Type::Byte => self.advance(1),
            Type::I16 | Type::I32 | Type::I64 => self.read_varint().map(|_| ()),
            Type::Double => self.advance(8),
            Type::Uuid => self.advance(16),
            Type::Binary => {
                let length = usize::try_from(self.read_varint()?).map_err(|_| damaged())?;
                self.advance(length)
            }
            Type::Struct => self.skip_struct(depth - 1),
            Type::List => {
                let (kind, count) = self.read_list_header()?;
                if count > MAX_ELEMENTS {
                    return Err(DecodingError::new(format!(
                        "its metadata has a list of {count} elements, and the limit is {MAX_ELEMENTS}"
                    )));
                }
                // The library does not consume the elements of a list of booleans that it skips.
                if kind == Type::False && count > 0 {
                    return Err(damaged());
                }
                (0..count).try_for_each(|_| self.skip(kind, depth - 1))
            }
            // Parquet does not use sets or maps.
            Type::Set | Type::Map => Err(damaged()),
        }
    }

    fn skip_struct(&mut self, depth: usize) -> Result<(), DecodingError> {
        self.visit_struct(|reader, _, kind| reader.skip(kind, depth).map(|()| true))
    }

    /// Skips a list of booleans and returns the number of its elements.
    pub fn skip_list_of_bools(&mut self) -> Result<usize, DecodingError> {
        match self.read_list_header()? {
            (Type::False, count) | (_, count @ 0) => self.advance(count).map(|()| count),
            _ => Err(damaged()),
        }
    }

    /// Skips a list with elements of type `of` and returns the number of its elements.
    pub fn skip_list(&mut self, of: Type) -> Result<usize, DecodingError> {
        let (kind, count) = self.read_list_header()?;
        if kind != of && count > 0 {
            return Err(damaged());
        }
        (0..count).try_for_each(|_| self.skip(kind, MAX_DEPTH))?;
        Ok(count)
    }
}

/// Fails unless a field has the type that the specification gives it. The library does not check this.
pub(super) fn expect_type(found: Type, expected: Type) -> Result<(), DecodingError> {
    match found == expected {
        true => Ok(()),
        false => Err(damaged()),
    }
}
