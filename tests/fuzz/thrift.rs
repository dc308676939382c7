//! Reads and writes structs of Thrift's compact protocol as trees, so that one value can be damaged while the rest stays valid.

use fastrand::Rng;

use crate::mutate::{ODD, damage};

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A Thrift value.
#[derive(Debug, Clone)]
pub enum Value {
    Flag,
    Byte(u8),
    Integer(i64),
    Double([u8; 8]),
    Bytes(Vec<u8>),
    /// The element type, the elements, and the declared number of elements if it is false.
    List(u8, Vec<Value>, Option<u64>),
    /// Fields: number, type, value.
    Struct(Vec<(i16, u8, Value)>),
}

/// Reads a struct from the front of `bytes` and removes it there. Returns `None` if it is invalid.
pub fn read(bytes: &mut &[u8]) -> Option<Value> {
    let mut fields = Vec::new();
    let mut id = 0_i16;
    loop {
        let header = byte(bytes)?;
        if header & 15 == 0 {
            return Some(Value::Struct(fields));
        }
        id = match header >> 4 {
            0 => i16::try_from(zigzag(bytes)?).ok()?,
            delta => id.checked_add(i16::from(delta))?,
        };
        fields.push((id, header & 15, value(bytes, header & 15)?));
    }
}

fn value(bytes: &mut &[u8], kind: u8) -> Option<Value> {
    Some(match kind {
        TRUE | FALSE => Value::Flag,
        BYTE => Value::Byte(byte(bytes)?),
        4..=6 => Value::Integer(zigzag(bytes)?),
        DOUBLE => {
            let (double, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Value::Double(*double)
        }
        BINARY => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (content, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Value::Bytes(content.to_vec())
        }
        LIST => {
            let header = byte(bytes)?;
            let (of, short) = (header & 15, u64::from(header >> 4));
            let count = if short == 15 { varint(bytes)? } else { short };
            let mut elements = Vec::new();
            for _ in 0..count {
                elements.push(match of {
                    TRUE | FALSE => Value::Byte(byte(bytes)?),
                    of => value(bytes, of)?,
                });
            }
            Value::List(of, elements, None)
        }
        STRUCT => read(bytes)?,
        _ => return None,
    })
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        number |= u64::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(number);
        }
    }
    None
}

fn zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let number = varint(bytes)?;
    Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn put_zigzag(bytes: &mut Vec<u8>, number: i64) {
    put_varint(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

impl Value {
    /// Appends the encoded value to `bytes`.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flag => {}
            Self::Byte(byte) => bytes.push(*byte),
            Self::Integer(number) => put_zigzag(bytes, *number),
            Self::Double(double) => bytes.extend(double),
            Self::Bytes(content) => {
                put_varint(bytes, content.len() as u64);
                bytes.extend(content);
            }
            Self::List(of, elements, declared) => {
                bytes.push(0xF0 | of);
                put_varint(bytes, declared.unwrap_or(elements.len() as u64));
                elements.iter().for_each(|element| element.write(bytes));
            }
            Self::Struct(fields) => {
                let mut last = 0_i16;
                for (id, kind, value) in fields {
                    match id.checked_sub(last) {
                        Some(delta @ 1..=15) => bytes.push(delta.to_le_bytes()[0] << 4 | kind),
                        _ => {
                            bytes.push(*kind);
                            put_zigzag(bytes, i64::from(*id));
                        }
                    }
                    value.write(bytes);
                    last = *id;
                }
                bytes.push(0);
            }
        }
    }

    /// Returns the integer at a path of field numbers and list positions.
    pub fn integer(&self, path: &[i16]) -> Option<i64> {
        match (self, path) {
            (Self::Integer(number), []) => Some(*number),
            (found, [first, rest @ ..]) => found.within(*first)?.integer(rest),
            _ => None,
        }
    }

    fn within(&self, at: i16) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.iter().find(|field| field.0 == at).map(|it| &it.2),
            Self::List(_, elements, _) => elements.get(usize::try_from(at).ok()?),
            _ => None,
        }
    }

    /// Replaces the integer at a path, if there is one.
    pub fn set(&mut self, path: &[i16], number: i64) {
        let found = match (self, path) {
            (Self::Integer(old), []) => return *old = number,
            (Self::Struct(fields), [first, ..]) => fields
                .iter_mut()
                .find(|field| field.0 == *first)
                .map(|field| &mut field.2),
            (Self::List(_, elements, _), [first, ..]) => usize::try_from(*first)
                .ok()
                .and_then(|first| elements.get_mut(first)),
            _ => None,
        };
        if let Some(found) = found {
            found.set(&path[1..], number);
        }
    }

    /// Returns the number of values in the tree, with the value itself.
    fn count(&self) -> usize {
        1 + match self {
            Self::List(_, elements, _) => elements.iter().map(Self::count).sum(),
            Self::Struct(fields) => fields.iter().map(|field| field.2.count()).sum(),
            _ => 0,
        }
    }

    /// Damages one random value of the tree.
    pub fn damage(&mut self, random: &mut Rng) {
        let at = random.usize(..self.count());
        self.damage_at(random, at);
    }

    fn damage_at(&mut self, random: &mut Rng, mut at: usize) {
        if at == 0 {
            return self.damage_this(random);
        }
        at -= 1;
        let inner: Vec<&mut Self> = match self {
            Self::List(_, elements, _) => elements.iter_mut().collect(),
            Self::Struct(fields) => fields.iter_mut().map(|field| &mut field.2).collect(),
            _ => return,
        };
        for value in inner {
            let count = value.count();
            if at < count {
                return value.damage_at(random, at);
            }
            at -= count;
        }
    }

    fn damage_this(&mut self, random: &mut Rng) {
        let odd = ODD[random.usize(..ODD.len())];
        match self {
            Self::Flag => {}
            Self::Byte(byte) => *byte = random.u8(..),
            Self::Integer(number) => {
                *number = match random.u8(..4) {
                    0 => -*number,
                    1 => number.wrapping_mul(random.i64(2..100_000)),
                    _ => odd.cast_signed(),
                }
            }
            Self::Double(double) => double[random.usize(..8)] = random.u8(..),
            Self::Bytes(bytes) => damage(random, bytes),
            Self::List(of, elements, declared) => match random.u8(..5) {
                0 => *declared = Some(odd),
                1 if !elements.is_empty() => {
                    let again = elements[random.usize(..elements.len())].clone();
                    let times = [1, 10, 1_000][random.usize(..3)];
                    elements.extend(std::iter::repeat_n(again, times));
                }
                2 if !elements.is_empty() => drop(elements.remove(random.usize(..elements.len()))),
                3 => *of = random.u8(1..14),
                _ => *declared = Some(elements.len() as u64 + random.u64(1..4)),
            },
            Self::Struct(fields) => match random.u8(..4) {
                0 => {
                    let list = Self::List(random.u8(1..14), Vec::new(), Some(odd));
                    fields.push((random.i16(1..40), LIST, list));
                }
                1 if !fields.is_empty() => drop(fields.remove(random.usize(..fields.len()))),
                2 if !fields.is_empty() => {
                    let at = random.usize(..fields.len());
                    fields[at].1 = random.u8(1..14);
                }
                _ => {
                    // A deeply nested struct.
                    let levels = random.usize(1..300);
                    let mut inner = Self::Struct(Vec::new());
                    for _ in 0..levels {
                        inner = Self::Struct(vec![(1, STRUCT, inner)]);
                    }
                    fields.push((random.i16(1..40), STRUCT, inner));
                }
            },
        }
    }
}
