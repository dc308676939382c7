//! Splits the text of a JSON list or object into its entries, and records the position of each.
//!
//! Each entry is then parsed separately: a mistake in one does not hide those in others.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Deserializer;

/// A part of a file's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonSlice<'a> {
    /// The text of the value.
    pub text: &'a str,
    /// The offset of the text in the file, in bytes.
    pub offset: usize,
}

/// A mistake in an entry, and the field that it is in.
#[derive(Debug)]
pub(super) struct EntryMistake {
    pub field: Option<String>,
    pub what: String,
    /// The number of lines from the beginning of the entry to the mistake.
    pub lines_below: usize,
}

impl<'a> JsonSlice<'a> {
    /// Returns the whole text of a file.
    pub fn whole(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// Returns the items of a list; `None` if the text is not a list, or not JSON.
    pub fn items(self) -> Option<Vec<Self>> {
        let mut cursor = Cursor::new(self.text);
        let mut items = Vec::new();
        cursor.sequence(b'[', b']', |cursor| {
            items.push(cursor.value()?.shifted(self.offset));
            Some(())
        })?;
        cursor.is_at_end().then_some(items)
    }

    /// Returns the keys and values of an object; `None` if the text is not an object, or not JSON.
    pub fn members(self) -> Option<Vec<(Cow<'a, str>, Self)>> {
        let mut cursor = Cursor::new(self.text);
        let mut members = Vec::new();
        cursor.sequence(b'{', b'}', |cursor| {
            let key = cursor.value()?.text;
            // Most keys have no escapes, and are used unchanged.
            let plain = key.strip_prefix('"')?.strip_suffix('"')?;
            let key = if plain.contains('\\') {
                Cow::Owned(serde_json::from_str(key).ok()?)
            } else {
                Cow::Borrowed(plain)
            };
            cursor.consume(b':')?;
            members.push((key, cursor.value()?.shifted(self.offset)));
            Some(())
        })?;
        cursor.is_at_end().then_some(members)
    }

    /// Parses the text as an object. Only if that fails, a second and slower pass determines the field of the mistake.
    pub fn object<T: DeserializeOwned>(self) -> Result<T, EntryMistake> {
        if !self.text.starts_with('{') {
            // serde would also accept a list of the fields' values.
            return Err(EntryMistake {
                field: None,
                what: format!("expected an object, found {}", json_type(self.text)),
                lines_below: 0,
            });
        }
        serde_json::from_str(self.text).map_err(|error| {
            let deserializer = &mut Deserializer::from_str(self.text);
            match serde_path_to_error::deserialize::<_, T>(deserializer) {
                Err(error) => self.mistake(&error),
                // Both passes parse the same text.
                Ok(_) => EntryMistake {
                    field: None,
                    what: without_position(&error),
                    lines_below: 0,
                },
            }
        })
    }

    fn shifted(mut self, by: usize) -> Self {
        self.offset += by;
        self
    }

    fn mistake(self, error: &serde_path_to_error::Error<serde_json::Error>) -> EntryMistake {
        let path = match error.path().to_string() {
            path if path == "." => None,
            path => Some(path),
        };
        let what = without_position(error.inner());
        let named = |start: &str| {
            what.strip_prefix(start)?
                .strip_suffix('`')
                .map(str::to_owned)
        };
        let inside = |field: String| match &path {
            // The path of a duplicate field already ends with the field.
            Some(path) if path == &field || path.ends_with(&format!(".{field}")) => path.clone(),
            Some(path) => format!("{path}.{field}"),
            None => field,
        };
        if let Some(field) = named("missing field `") {
            return EntryMistake {
                field: Some(inside(field)),
                what: "it is missing".to_owned(),
                lines_below: 0,
            };
        }
        if let Some(field) = named("duplicate field `") {
            return EntryMistake {
                field: Some(inside(field)),
                what: "it occurs twice".to_owned(),
                lines_below: 0,
            };
        }
        EntryMistake {
            field: path,
            what,
            lines_below: error.inner().line().saturating_sub(1),
        }
    }
}

/// Returns the error without serde's own line and column, which count from the beginning of the parsed text.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// Returns the type of a JSON text, in words.
pub(super) fn json_type(text: &str) -> &'static str {
    match text.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// Converts offsets to line numbers. Offsets mostly ascend, so the text is usually scanned only once.
pub(super) struct LineCounter<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            line: 1,
        }
    }

    /// Returns the number of the line that contains the byte at `offset`, from 1.
    pub fn line_at(&mut self, offset: usize) -> usize {
        if offset < self.offset {
            (self.offset, self.line) = (0, 1);
        }
        let between = self.text.as_bytes().get(self.offset..offset);
        self.line += between
            .unwrap_or_default()
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        self.offset = offset;
        self.line
    }
}

/// Steps through a JSON text from value to value.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Parses `open`, any number of `entry` separated by commas, and `close`.
    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        mut entry: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.consume(open)?;
        if self.consume(close).is_some() {
            return Some(());
        }
        loop {
            entry(self)?;
            if self.consume(b',').is_none() {
                return self.consume(close);
            }
        }
    }

    /// Steps over the next value, and returns it.
    fn value(&mut self) -> Option<JsonSlice<'a>> {
        self.skip_whitespace();
        let rest = self.text.get(self.at..)?;
        let mut values = Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let text = rest.get(..values.byte_offset())?;
        let offset = self.at;
        self.at += text.len();
        Some(JsonSlice { text, offset })
    }

    fn consume(&mut self, byte: u8) -> Option<()> {
        self.skip_whitespace();
        let is_next = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next.then_some(())
    }

    fn skip_whitespace(&mut self) {
        let rest = self.text.as_bytes().iter().skip(self.at);
        self.at += rest
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_whitespace();
        self.at == self.text.len()
    }
}
