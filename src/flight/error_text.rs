//! Texts of errors as clients get them: short enough for a header, without control characters and credentials, and with no
//! more than a glance at the data that they are about.

use tonic::Status;

use super::status::{callers_doing, is_callers_doing};
use crate::config::redact;

/// The maximum length of a text, in characters.
const MAX_TEXT_CHARS: usize = 2_000;
/// The maximum length of a text in a header, where gRPC writes most characters other than letters as three bytes each.
/// Clients take as little as 8 KiB of headers in all.
const MAX_ENCODED_BYTES: usize = 6_000;
/// The maximum length of what is said of a text that was cut, in characters: so that it is not cut again.
const CUT_NOTE: usize = 50;
/// The maximum length of a value that a text quotes, in characters.
const MAX_VALUE_CHARS: usize = 64;
/// The maximum length of a text about data, in characters, however it quotes.
const MAX_DATA_TEXT_CHARS: usize = 512;

/// The same status with a text that is within the limits.
pub(super) fn within_limits(status: Status) -> Status {
    let text = sanitised(status.message());
    if text == status.message() {
        return status;
    }
    let details = status.details().to_vec();
    let metadata = status.metadata().clone();
    let within = Status::with_details_and_metadata(status.code(), text, details.into(), metadata);
    match is_callers_doing(&status) {
        true => callers_doing(within),
        false => within,
    }
}

/// A text without credentials and control characters, cut to what a header holds.
fn sanitised(text: &str) -> String {
    // Nobody reads beyond the limit: what is behind it need not be looked at. A URL that is cut keeps its beginning.
    let length = text.chars().count();
    let start: String = text.chars().take(2 * MAX_TEXT_CHARS).collect();
    let text = escaped(&redact(&start));
    let is_whole = length <= MAX_TEXT_CHARS && length_within(&text, 0) == text.len();
    match is_whole {
        true => text,
        false => {
            let shown = text
                .get(..length_within(&text, CUT_NOTE))
                .unwrap_or_default();
            format!("{shown}… ({length} characters in all)")
        }
    }
}

/// How much of `text` is within the limits, in bytes, if something of `reserve` characters is to come after it.
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

/// How many bytes of a header a character may become.
fn encoded_bytes(c: char) -> usize {
    match c.is_ascii_alphanumeric() {
        true => 1,
        false => 3 * c.len_utf8(),
    }
}

/// A text whose control characters, but for line ends, are written as escapes; those that turn the direction of writing, too.
fn escaped(text: &str) -> String {
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

/// The text of an error about a value of the data: the value is cut, and its length said.
pub(super) fn about_data(text: &str) -> String {
    // The pattern is in it, over several lines; what is wrong with it is the last.
    if let Some((_, reason)) = text
        .rsplit_once("\nerror: ")
        .filter(|_| text.contains("regex parse error"))
    {
        return format!(
            "a regular expression cannot be read: {}",
            about_data(reason.lines().next().unwrap_or_default())
        );
    }
    let text = text.replace('\n', "\\n");
    let length = text.chars().count();
    let text = with_cut_value(&text).unwrap_or(text);
    let text = with_cut_words(&text);
    match text.char_indices().nth(MAX_DATA_TEXT_CHARS) {
        Some((end, _)) => {
            let shown = text.get(..end).unwrap_or_default();
            format!("{shown}… ({length} characters in all)")
        }
        None => text,
    }
}

/// `text` with the value between its first quotation mark and the last such mark cut; none if the value is short. A value
/// may have such marks in it.
fn with_cut_value(text: &str) -> Option<String> {
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

/// `text` with each word cut that is longer than a value may be.
fn with_cut_words(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        // What comes before and after the value that was cut already, such as its quotation marks, counts, too.
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
    use tonic::Code;

    use super::*;

    #[test]
    fn status_text_is_cut_to_what_a_header_holds() {
        let text = |text: &str| {
            let status = within_limits(Status::new(Code::NotFound, text));
            assert_eq!(status.code(), Code::NotFound);
            status.message().to_owned()
        };
        assert_eq!(text("no table \"x\"\nline 1"), "no table \"x\"\nline 1");
        let long = text(&"a".repeat(1_000_000));
        assert!(long.starts_with("aaa") && long.ends_with("a… (1000000 characters in all)"));
        assert!(long.chars().count() <= MAX_TEXT_CHARS, "{}", long.len());
        assert_eq!(text(&long), long);
        // Each of these becomes six bytes.
        let wide = text(&"ä".repeat(1_500));
        assert_eq!(
            wide.matches('ä').count(),
            (MAX_ENCODED_BYTES - 3 * CUT_NOTE) / 6
        );
        assert_eq!(text(&wide), wide);
        let own = within_limits(callers_doing(Status::unavailable("x".repeat(5_000))));
        assert!(is_callers_doing(&own) && own.message().len() < 3_000);
        assert_eq!(text("a\u{1b}[2J\rb\u{202e}c"), "a\\u{1b}[2J\\rb\\u{202e}c");
        assert_eq!(text("see s3://me:hush@bucket"), "see s3://******@bucket");
    }

    #[test]
    fn text_about_data_shows_the_start_of_the_value_and_its_length() {
        let value = "9".repeat(3_000);
        assert_eq!(
            about_data(&format!(
                "Cast error: Cannot cast string '{value}' to value of Int64 type"
            )),
            format!(
                "Cast error: Cannot cast string '{}…' (3000 characters) to value of Int64 type",
                "9".repeat(64)
            )
        );
        assert_eq!(
            about_data("Cannot cast string 'abc' to Int64"),
            "Cannot cast string 'abc' to Int64"
        );
        // Marks in the value do not end it.
        let marked = about_data(&format!(
            "Cannot cast string '{}' to Int64",
            "a' to 'b".repeat(100)
        ));
        assert!(marked.ends_with("…' (800 characters) to Int64"), "{marked}");
        assert_eq!(
            about_data(&"7".repeat(5_000)),
            format!("{}… (5000 characters)", "7".repeat(64))
        );
        let words = about_data(&"7 ".repeat(5_000));
        assert!(words.ends_with("… (10000 characters in all)"), "{words}");
        assert!(words.chars().count() < MAX_DATA_TEXT_CHARS + 50);
        let pattern = "did not compile: Syntax(\n~~\nregex parse error:\n    (aaa\n    ^\nerror: unclosed group\n~~)";
        assert_eq!(
            about_data(pattern),
            "a regular expression cannot be read: unclosed group"
        );
    }
}
