//! The text of files that people edit, in the encodings that their editors and shells write.

use std::borrow::Cow;
use std::io;
use std::path::Path;

const UTF8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
const UTF16_LITTLE_MARK: &[u8] = &[0xff, 0xfe];
const UTF16_BIG_MARK: &[u8] = &[0xfe, 0xff];
/// The marks of UTF-32. The first begins like that of UTF-16, whose texts never begin with NUL.
const UTF32_MARKS: [&[u8]; 2] = [&[0xff, 0xfe, 0, 0], &[0, 0, 0xfe, 0xff]];
/// The number of bytes that are examined for UTF-16 without a mark.
const EXAMINED_BYTES: usize = 64;

/// The error that a file does not contain text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; save it as UTF-8")]
pub struct NotText {
    problem: &'static str,
    /// The line of the first invalid character of a text in UTF-8, starting with 1; `None` for other encodings.
    pub line: Option<usize>,
}

impl NotText {
    const fn of_file(problem: &'static str) -> Self {
        Self {
            problem,
            line: None,
        }
    }
}

/// Returns the text in `bytes` without its byte order mark. The text is UTF-8, or UTF-16 with a mark, as Notepad and
/// PowerShell write it.
///
/// # Errors
/// Fails if the bytes are in another encoding, or are invalid.
///
/// ```
/// use plantlake::model::decode_text;
///
/// assert_eq!(decode_text(b"\xef\xbb\xbfSELECT 1").unwrap(), "SELECT 1");
/// assert_eq!(decode_text(b"\xff\xfe1\0").unwrap(), "1");
/// assert!(decode_text(b"P\xfcmpe").is_err());
/// ```
pub fn decode_text(bytes: &[u8]) -> Result<Cow<'_, str>, NotText> {
    if UTF32_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(NotText::of_file("it is UTF-32 text"));
    }
    if let Some(units) = bytes.strip_prefix(UTF16_LITTLE_MARK) {
        return decode_utf16(units, u16::from_le_bytes).map(Cow::Owned);
    }
    if let Some(units) = bytes.strip_prefix(UTF16_BIG_MARK) {
        return decode_utf16(units, u16::from_be_bytes).map(Cow::Owned);
    }
    let bytes = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    // Latin text in UTF-16 is valid UTF-8, with a NUL at every other byte.
    if is_unmarked_utf16(bytes) {
        return Err(NotText::of_file(
            "it looks like UTF-16 text without a byte order mark",
        ));
    }
    std::str::from_utf8(bytes)
        .map(Cow::Borrowed)
        .map_err(|error| NotText {
            problem: "it is not UTF-8 text",
            line: Some(line_at(bytes, error.valid_up_to())),
        })
}

/// Reads the text of a file, like [`decode_text`].
///
/// # Errors
/// Fails if the file cannot be read, and with [`io::ErrorKind::InvalidData`] if it does not contain text.
pub fn read_text(path: &Path) -> io::Result<String> {
    text_from(std::fs::read(path)?)
}

/// Returns the text in `bytes`, like [`decode_text`].
///
/// # Errors
/// Fails with [`io::ErrorKind::InvalidData`] if the bytes are not text. The error names the line.
pub fn text_from(bytes: Vec<u8>) -> io::Result<String> {
    let decoded = decode_text(&bytes).map(|text| match text {
        // The allocation of the bytes is reused.
        Cow::Borrowed(text) if text.len() == bytes.len() => None,
        text => Some(text.into_owned()),
    });
    let invalid = |error: NotText| {
        let text = match error.line {
            Some(line) => format!("line {line}: {error}"),
            None => error.to_string(),
        };
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    match decoded.map_err(invalid)? {
        Some(text) => Ok(text),
        None => String::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NotText::of_file(
            "it is UTF-16 text that ends within a character",
        ));
    }
    char::decode_utf16(units.iter().map(|pair| unit(*pair)))
        .collect::<Result<_, _>>()
        .map_err(|_| NotText::of_file("it is UTF-16 text with an invalid character"))
}

fn is_unmarked_utf16(bytes: &[u8]) -> bool {
    let (units, rest) = bytes.as_chunks::<2>();
    let examined = units.iter().take(EXAMINED_BYTES / 2);
    let is_at = |at: usize| {
        let mut pairs = examined.clone();
        pairs.all(|pair| pair.get(at) == Some(&0) && pair.get(1 - at) != Some(&0))
    };
    !units.is_empty() && rest.is_empty() && (is_at(0) || is_at(1))
}

/// Returns the number of the line that contains the byte at `offset`, starting with 1.
fn line_at(bytes: &[u8], offset: usize) -> usize {
    let before = bytes.iter().take(offset);
    1 + before.filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "-- Pümpe \u{1f527}\r\nSELECT 1\n";

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn decode_text_accepts_what_editors_write() {
        let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
        for bytes in [
            TEXT.as_bytes().to_vec(),
            marked(UTF8_MARK, TEXT.into()),
            marked(UTF16_LITTLE_MARK, utf16(TEXT, u16::to_le_bytes)),
            marked(UTF16_BIG_MARK, utf16(TEXT, u16::to_be_bytes)),
        ] {
            assert_eq!(decode_text(&bytes).unwrap(), TEXT, "{bytes:?}");
            assert_eq!(text_from(bytes).unwrap(), TEXT);
        }
        for empty in [b"".as_slice(), UTF8_MARK, UTF16_LITTLE_MARK, UTF16_BIG_MARK] {
            assert_eq!(decode_text(empty).unwrap(), "");
        }
    }

    #[test]
    fn decode_text_of_other_encodings_names_problem_and_line() {
        let latin = [b"a\nP".as_slice(), &[0xfc], b"mpe"].concat();
        let mut lone = UTF16_BIG_MARK.to_vec();
        lone.extend([0, b'\n', 0xd8, 0, 0, b'x']);
        for (bytes, problem, line) in [
            (latin, "not UTF-8", Some(2)),
            (
                utf16("SELECT 1", u16::to_le_bytes),
                "without a byte order mark",
                None,
            ),
            (
                utf16("SELECT 1", u16::to_be_bytes),
                "without a byte order mark",
                None,
            ),
            (vec![0xff, 0xfe, b'1'], "ends within a character", None),
            (lone, "invalid character", None),
            (vec![0xff, 0xfe, 0, 0, b'1', 0, 0, 0], "UTF-32", None),
        ] {
            let error = decode_text(&bytes).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.to_string().contains("save it as UTF-8"), "{error}");
            assert_eq!(error.line, line, "{error}");
            let kind = text_from(bytes).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData);
        }
    }
}
