//! Error texts for clients: short enough for a header, without control characters and credentials, and with only a short
//! excerpt of the data that they concern.

use crate::config::redact;

/// The maximum length of a text, in characters.
const MAX_TEXT_CHARS: usize = 2_000;
/// The maximum length of an encoded text in a header, in bytes. gRPC encodes most characters other than letters as three
/// bytes each. Some clients accept only 8 KiB of headers in all.
const MAX_ENCODED_BYTES: usize = 6_000;
/// The maximum length of the note that is appended to a cut text, in characters. Room for it is reserved, so that the text
/// is not cut again.
const MAX_NOTE_CHARS: usize = 50;
/// The maximum length of a quoted value, in characters.
const MAX_VALUE_CHARS: usize = 64;
/// The maximum length of a text about data, in characters.
const MAX_DATA_TEXT_CHARS: usize = 512;

/// Returns the text without credentials and control characters, cut to the limits of a header.
pub(in crate::server) fn sanitise(text: &str) -> String {
    // Text beyond the limit is not sent, so it need not be redacted. A URL that is cut keeps its beginning.
    let length = text.chars().count();
    let start: String = text.chars().take(2 * MAX_TEXT_CHARS).collect();
    let text = escape(&redact(&start));
    let is_whole = length <= MAX_TEXT_CHARS && length_within(&text, 0) == text.len();
    match is_whole {
        true => text,
        false => {
            let shown = text
                .get(..length_within(&text, MAX_NOTE_CHARS))
                .unwrap_or_default();
            format!("{shown}… ({length} characters in all)")
        }
    }
}

/// Returns the length of the start of `text` that is within the limits if `reserve` characters follow it, in bytes.
fn length_within(text: &str, reserve: usize) -> usize {
    let max_bytes = MAX_ENCODED_BYTES - 3 * reserve;
    let mut encoded = 0;
    let fits = text
        .chars()
        .take(MAX_TEXT_CHARS - reserve)
        .take_while(|&c| {
            encoded += encoded_bytes(c);
            encoded <= max_bytes
        });
    fits.map(char::len_utf8).sum()
}

/// Returns the maximum number of bytes that a character takes in a header.
fn encoded_bytes(c: char) -> usize {
    match c.is_ascii_alphanumeric() {
        true => 1,
        false => 3 * c.len_utf8(),
    }
}

/// Returns the text with escapes for control characters other than line feeds, for line separators, and for characters that
/// change the writing direction.
fn escape(text: &str) -> String {
    let is_harmful = |c: char| {
        c != '\n' && c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if !text.contains(is_harmful) {
        return text.to_owned();
    }
    text.chars().fold(String::new(), |mut out, c| {
        match is_harmful(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}

/// Returns the text of an error about a value of the data. The value is cut, and its length stated.
pub(in crate::server) fn data_error_text(text: &str) -> String {
    // The text contains the pattern, over several lines; the reason follows `error: `.
    if let Some((_, reason)) = text
        .rsplit_once("\nerror: ")
        .filter(|_| text.contains("regex parse error"))
    {
        return format!(
            "invalid regular expression: {}",
            data_error_text(reason.lines().next().unwrap_or_default())
        );
    }
    let text = text.replace('\n', "\\n");
    let length = text.chars().count();
    let text = truncate_value(&text).unwrap_or(text);
    let text = truncate_words(&text);
    match text.char_indices().nth(MAX_DATA_TEXT_CHARS) {
        Some((end, _)) => {
            let shown = text.get(..end).unwrap_or_default();
            format!("{shown}… ({length} characters in all)")
        }
        None => text,
    }
}

/// Returns `text` with a cut value: the value is between the first quotation mark and the last such mark, and may contain
/// such marks. Returns none if the value is short.
fn truncate_value(text: &str) -> Option<String> {
    let start = text.find(['\'', '"', '`'])?;
    let mark = text.get(start..)?.chars().next()?;
    let end = text.rfind(mark).filter(|end| *end > start)?;
    let value = text.get(start + mark.len_utf8()..end)?;
    let length = value.chars().count();
    if length <= MAX_VALUE_CHARS {
        return None;
    }
    let shown: String = value.chars().take(MAX_VALUE_CHARS).collect();
    let (before, after) = (text.get(..start)?, text.get(end + mark.len_utf8()..)?);
    Some(format!(
        "{before}{mark}{shown}…{mark} ({length} characters){after}"
    ))
}

/// Returns `text` with each word cut that is longer than a value may be.
fn truncate_words(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        // A value that was cut already has up to 3 more characters, such as its quotation marks.
        match word.chars().count() {
            length if length > MAX_VALUE_CHARS + 3 => {
                let shown: String = word.chars().take(MAX_VALUE_CHARS).collect();
                format!("{shown}… ({length} characters)")
            }
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitise_cuts_text_to_header_size() {
        let text = sanitise;
        assert_eq!(text("no table \"x\"\nline 1"), "no table \"x\"\nline 1");
        let long = text(&"a".repeat(1_000_000));
        assert!(long.starts_with("aaa") && long.ends_with("a… (1000000 characters in all)"));
        assert!(long.chars().count() <= MAX_TEXT_CHARS, "{}", long.len());
        assert_eq!(text(&long), long);
        // Each of these becomes six bytes.
        let wide = text(&"ä".repeat(1_500));
        assert_eq!(
            wide.matches('ä').count(),
            (MAX_ENCODED_BYTES - 3 * MAX_NOTE_CHARS) / 6
        );
        assert_eq!(text(&wide), wide);
        assert_eq!(text("a\u{1b}[2J\rb\u{202e}c"), "a\\u{1b}[2J\\rb\\u{202e}c");
        assert_eq!(text("see s3://me:hush@bucket"), "see s3://******@bucket");
    }

    #[test]
    fn data_error_text_shows_start_and_length_of_value() {
        let value = "9".repeat(3_000);
        assert_eq!(
            data_error_text(&format!(
                "Cast error: Cannot cast string '{value}' to value of Int64 type"
            )),
            format!(
                "Cast error: Cannot cast string '{}…' (3000 characters) to value of Int64 type",
                "9".repeat(64)
            )
        );
        assert_eq!(
            data_error_text("Cannot cast string 'abc' to Int64"),
            "Cannot cast string 'abc' to Int64"
        );
        // Quotation marks in the value do not end it.
        let marked = data_error_text(&format!(
            "Cannot cast string '{}' to Int64",
            "a' to 'b".repeat(100)
        ));
        assert!(marked.ends_with("…' (800 characters) to Int64"), "{marked}");
        assert_eq!(
            data_error_text(&"7".repeat(5_000)),
            format!("{}… (5000 characters)", "7".repeat(64))
        );
        let words = data_error_text(&"7 ".repeat(5_000));
        assert!(words.ends_with("… (10000 characters in all)"), "{words}");
        assert!(words.chars().count() < MAX_DATA_TEXT_CHARS + 50);
        let pattern = "did not compile: Syntax(\n~~\nregex parse error:\n    (aaa\n    ^\nerror: unclosed group\n~~)";
        assert_eq!(
            data_error_text(pattern),
            "invalid regular expression: unclosed group"
        );
    }
}
