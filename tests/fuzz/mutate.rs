//! Mutates valid inputs: SQL by words, messages by fields, and anything by bytes.

use arrow_flight::FlightData;
use fastrand::Rng;
use prost::Message;

use crate::words::{Kind, word};

/// The maximum length of a mutated text or message, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// Boundary values for lengths, offsets and counts.
pub const ODD: [u64; 13] = [
    0,
    1,
    127,
    255,
    32_767,
    65_536,
    1 << 28,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// Returns `text` with some words changed, some of them replaced by words of `other`.
pub fn text(random: &mut Rng, text: &str, other: &str) -> String {
    let mut parts = split(text);
    let others = split(other);
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=parts.len());
        let end = (at + random.usize(..4)).min(parts.len());
        match random.u8(..10) {
            0 => drop(parts.drain(at..end)),
            1 => {
                let again = parts[at..end].to_vec();
                let times = if random.u8(..10) == 0 { 200 } else { 2 };
                parts.splice(at..at, std::iter::repeat_n(again, times).flatten());
            }
            2 if at < parts.len() => {
                let with = random.usize(..parts.len());
                parts.swap(at, with);
            }
            3 | 4 => parts.insert(at, format!(" {} ", word(random, "pieces"))),
            5 if at < parts.len() => {
                let kind = Kind::ALL[random.usize(..Kind::ALL.len())];
                parts[at] = word(random, kind.name()).to_owned();
            }
            6 if at < parts.len() => {
                let mut bytes = std::mem::take(&mut parts[at]).into_bytes();
                damage(random, &mut bytes);
                parts[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
            7 => parts.truncate(at.max(1)),
            _ => {
                let from = random.usize(..=others.len());
                let to = (from + random.usize(..12)).min(others.len());
                parts.splice(at..end, others[from..to].iter().cloned());
            }
        }
    }
    let mut text = parts.concat();
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES));
    }
    text
}

/// Splits a text into words, numbers, quoted texts, and single characters.
fn split(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut quote = None;
    let mut before = ' ';
    for character in text.chars() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let goes_on = quote.is_some() || is_word(character) && is_word(before);
        match parts.last_mut() {
            Some(part) if goes_on => part.push(character),
            _ => parts.push(character.to_string()),
        }
        quote = match quote {
            Some(open) if open == character => None,
            None if character == '\'' || character == '"' => Some(character),
            open => open,
        };
        before = character;
    }
    parts
}

/// Changes, inserts, removes or repeats up to three runs of bytes.
pub fn damage(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            bytes.push(random.u8(..));
        }
        let at = random.usize(..bytes.len());
        match random.u8(..7) {
            0 | 1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes[at] = random.u8(..),
            3 => {
                let odd = ODD[random.usize(..ODD.len())].to_le_bytes();
                let width = 1 << random.usize(..4);
                let at = at / width * width;
                for (byte, odd) in bytes[at..].iter_mut().zip(&odd[..width]) {
                    *byte = *odd;
                }
            }
            4 => bytes.insert(at, random.u8(..)),
            5 => {
                let end = (at + random.usize(1..9)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ if random.u8(..4) == 0 => bytes.truncate(at),
            _ => {
                let end = (at + random.usize(1..17)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

/// A field of a Protobuf message: its key (number and wire type), and its content without the length prefix.
struct Field {
    key: u64,
    content: Vec<u8>,
}

const VARINT: u64 = 0;
const LENGTH: u64 = 2;

/// Changes a field of a Protobuf message, or of a message within it. The enclosing messages stay valid.
pub fn message(random: &mut Rng, bytes: &mut Vec<u8>) {
    let Some(mut fields) = fields(bytes).filter(|fields| !fields.is_empty()) else {
        return damage(random, bytes);
    };
    let at = random.usize(..fields.len());
    match random.u8(..12) {
        0 => drop(fields.remove(at)),
        1 => {
            let (key, content) = (fields[at].key, fields[at].content.clone());
            let place = random.usize(..=fields.len());
            fields.insert(place, Field { key, content });
        }
        2 => fields[at].key = fields[at].key & !7 | random.u64(..8),
        3 => fields[at].key = random.u64(..20) << 3 | fields[at].key & 7,
        4 => {
            let content = ODD[random.usize(..ODD.len())];
            let field = Field {
                key: random.u64(1..20) << 3,
                content: varint(content),
            };
            fields.insert(at, field);
        }
        5 if random.u8(..4) == 0 => {
            // Deep nesting, either of messages or of groups, which are deprecated.
            let key = fields[at].key & !7 | if random.bool() { LENGTH } else { 3 };
            for _ in 0..random.usize(1..200) {
                let inner = vec![Field {
                    key,
                    content: std::mem::take(&mut fields[at].content),
                }];
                fields[at].content = whole(&inner);
            }
        }
        _ => {
            let field = &mut fields[at];
            match field.key & 7 {
                VARINT => field.content = varint(ODD[random.usize(..ODD.len())]),
                LENGTH if random.u8(..4) > 0 => message(random, &mut field.content),
                _ => damage(random, &mut field.content),
            }
        }
    }
    *bytes = whole(&fields);
    if random.u8(..20) == 0 {
        // This may invalidate lengths, too.
        damage(random, bytes);
    }
    bytes.truncate(MAX_BYTES);
}

/// Changes the Arrow IPC header or body of a Flight data message, either at random or at numbers that may determine the size
/// of an allocation.
pub fn flight_data(random: &mut Rng, bytes: &mut Vec<u8>) {
    let Ok(mut data) = FlightData::decode(bytes.as_slice()) else {
        return damage(random, bytes);
    };
    let choice = random.u8(..8);
    let part = match choice {
        0 | 1 => &mut data.data_body,
        _ => &mut data.data_header,
    };
    let mut content = part.to_vec();
    match choice {
        0 | 2 | 3 => damage(random, &mut content),
        // Lengths, counts and offsets are 64-bit numbers in the header, and in front of each compressed buffer.
        _ => numbers(random, &mut content),
    }
    *part = content.into();
    *bytes = data.encode_to_vec();
}

/// Replaces 64-bit or 32-bit numbers that may be lengths.
fn numbers(random: &mut Rng, bytes: &mut [u8]) {
    let width = [8, 8, 8, 4][random.usize(..4)];
    let is_length = |bytes: &[u8]| {
        let (low, high) = bytes.split_at(3);
        low.iter().any(|byte| *byte != 0) && high.iter().all(|byte| *byte == 0)
    };
    let places = bytes.chunks_exact(width).enumerate();
    let places = places.filter(|(_, bytes)| is_length(bytes));
    let places: Vec<usize> = places.map(|(at, _)| at * width).collect();
    if places.is_empty() {
        return;
    }
    let odd = ODD[random.usize(..ODD.len())].to_le_bytes();
    let first = places[random.usize(..places.len())];
    let old = bytes[first..first + width].to_vec();
    // A length is often stored in several places, and is accepted only if all agree.
    let is_everywhere = random.bool();
    for at in places {
        let place = &mut bytes[at..at + width];
        if at == first || is_everywhere && *place == *old {
            place.copy_from_slice(&odd[..width]);
        }
    }
}

fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes)?;
        let length = match key & 7 {
            VARINT => {
                let mut rest = bytes;
                read_varint(&mut rest)?;
                bytes.len() - rest.len()
            }
            1 => 8,
            LENGTH => usize::try_from(read_varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        fields.push(Field {
            key,
            content: content.to_vec(),
        });
        bytes = rest;
    }
    Some(fields)
}

fn whole(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend(varint(field.key));
        if field.key & 7 == LENGTH {
            bytes.extend(varint(field.content.len() as u64));
        }
        bytes.extend_from_slice(&field.content);
    }
    bytes
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}
