//! Computes the decompressed length of LZ4 data without decompressing it.
//!
//! An LZ4 block is a sequence of tokens. Each token declares how many bytes are literals, and how many are copied from
//! earlier output. Adding them up takes no memory, and less time than decompressing.

use super::DecodingError;

/// The magic number at the start of a frame.
const MAGIC: u32 = 0x184D_2204;
/// Bits of the `FLG` byte in a frame descriptor.
const HAS_BLOCK_CHECKSUMS: u8 = 0b0001_0000;
const HAS_CONTENT_SIZE: u8 = 0b0000_1000;
const HAS_DICTIONARY: u8 = 0b0000_0001;
/// The bit of a block's size field that marks an uncompressed block.
const IS_STORED: u32 = 1 << 31;
/// The minimum length of a match, in bytes.
const MIN_MATCH: u64 = 4;

/// Returns the decompressed length of the LZ4 frame at the start of `bytes`, in bytes. A decoder never produces more.
///
/// # Errors
/// Fails if `bytes` do not start with a frame, or the frame is truncated.
pub fn frame_content_length(bytes: &[u8]) -> Result<u64, DecodingError> {
    let cut_off = || DecodingError::new("truncated LZ4 frame");
    let mut rest = bytes;
    if read_u32(&mut rest).ok_or_else(cut_off)? != MAGIC {
        return Err(DecodingError::new("compressed data is not an LZ4 frame"));
    }
    let flags = *rest.first().ok_or_else(cut_off)?;
    let mut descriptor = 3;
    descriptor += if flags & HAS_CONTENT_SIZE != 0 { 8 } else { 0 };
    descriptor += if flags & HAS_DICTIONARY != 0 { 4 } else { 0 };
    rest = rest.get(descriptor..).ok_or_else(cut_off)?;
    let mut length: u64 = 0;
    // Some writers omit the end mark, and decoders accept that.
    while let Some(declared) = read_u32(&mut rest) {
        if declared == 0 {
            break;
        }
        let size = usize::try_from(declared & !IS_STORED).map_err(|_| cut_off())?;
        let (block, after) = rest.split_at_checked(size).ok_or_else(cut_off)?;
        let decoded = match declared & IS_STORED {
            0 => block_content_length(block)?,
            _ => block.len() as u64,
        };
        length = length.saturating_add(decoded);
        rest = after;
        if flags & HAS_BLOCK_CHECKSUMS != 0 {
            read_u32(&mut rest).ok_or_else(cut_off)?;
        }
    }
    Ok(length)
}

/// Returns the decompressed length of one LZ4 block, in bytes.
///
/// # Errors
/// Fails if the block is truncated.
pub fn block_content_length(block: &[u8]) -> Result<u64, DecodingError> {
    let cut_off = || DecodingError::new("truncated LZ4 block");
    let mut rest = block;
    let mut length: u64 = 0;
    while let Some((&token, after)) = rest.split_first() {
        rest = after;
        let literals =
            read_extended_length(u64::from(token >> 4), &mut rest).ok_or_else(cut_off)?;
        let skipped = usize::try_from(literals).map_err(|_| cut_off())?;
        rest = rest.get(skipped..).ok_or_else(cut_off)?;
        length = length.saturating_add(literals);
        if rest.is_empty() {
            break;
        }
        // The offset of the match.
        rest = rest.get(2..).ok_or_else(cut_off)?;
        let copied = read_extended_length(u64::from(token & 15), &mut rest).ok_or_else(cut_off)?;
        length = length.saturating_add(copied + MIN_MATCH);
    }
    Ok(length)
}

/// Reads a length whose first 4 bits are `nibble`. If all 4 bits are set, the following bytes are added, up to and
/// including the first that is not 255. Returns none if `rest` ends before that byte.
fn read_extended_length(nibble: u64, rest: &mut &[u8]) -> Option<u64> {
    if nibble < 15 {
        return Some(nibble);
    }
    let run = rest.iter().take_while(|&&byte| byte == u8::MAX).count();
    let last = *rest.get(run)?;
    *rest = &rest[run + 1..];
    Some(15 + 255 * run as u64 + u64::from(last))
}

fn read_u32(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_content_length_of_literals_and_match_is_their_sum() {
        // 3 literals, then a match of 4 + 15 + 255 + 255 + 1 bytes, then 1 literal.
        let block = [0x3F, b'a', b'b', b'c', 3, 0, 255, 255, 1, 0x10, b'z'];
        assert_eq!(block_content_length(&block), Ok(3 + 19 + 511 + 1));
    }

    #[test]
    fn frame_content_length_of_stored_block_is_its_length() {
        let mut frame = MAGIC.to_le_bytes().to_vec();
        frame.extend([0x60, 0x40, 0]);
        frame.extend((5 | IS_STORED).to_le_bytes());
        frame.extend(*b"hello");
        frame.extend([0; 4]);
        assert_eq!(frame_content_length(&frame), Ok(5));
        assert!(frame_content_length(&frame[..12]).is_err());
        assert!(frame_content_length(b"no frame at all").is_err());
    }
}
