//! The entries of a catalog file while they are checked: mistakes are reported with their places.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};

use super::entries::{EntryMistake, JsonSlice, LineCounter, json_type, without_position};
use super::error::{EntryKind, Problem, Problems};
use crate::model::{AssetId, decode_text};

/// The text of a catalog file.
pub(super) struct FileText<'a> {
    pub path: PathBuf,
    text: Cow<'a, str>,
}

impl<'a> FileText<'a> {
    pub fn new(
        folder: &Path,
        name: &str,
        bytes: &'a [u8],
        problems: &mut Problems,
    ) -> Option<Self> {
        let path = folder.join(name);
        match decode_text(bytes) {
            Ok(text) => Some(Self { path, text }),
            Err(error) => {
                problems.add(Problem {
                    line: error.line,
                    ..Problem::of_file(&path, error.to_string())
                });
                None
            }
        }
    }

    /// Returns the text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reports why the file is not `expected`, which is a list or an object.
    pub fn report_wrong_form(&self, expected: &str, problems: &mut Problems) {
        let problem = match serde_json::from_str::<IgnoredAny>(&self.text) {
            _ if self.text.trim().is_empty() => Problem::of_file(&self.path, "the file is empty"),
            Err(error) => Problem {
                line: Some(error.line()),
                ..Problem::of_file(
                    &self.path,
                    format!(
                        "it is not JSON: {} at column {}",
                        without_position(&error),
                        error.column()
                    ),
                )
            },
            Ok(_) => Problem::of_file(
                &self.path,
                format!("expected {expected}, found {}", json_type(&self.text)),
            ),
        };
        problems.add(problem);
    }
}

/// A list of entries that is being checked.
pub(super) struct EntryList<'a, 'p> {
    pub path: &'a Path,
    kind: EntryKind,
    lines: LineCounter<'a>,
    pub problems: &'p mut Problems,
}

impl<'a, 'p> EntryList<'a, 'p> {
    pub fn new(text: &'a FileText<'_>, kind: EntryKind, problems: &'p mut Problems) -> Self {
        Self {
            path: &text.path,
            kind,
            lines: LineCounter::new(text.text()),
            problems,
        }
    }

    /// Reports a mistake in the entry at `index`.
    pub fn report(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
        name: Option<&str>,
        field: Option<&str>,
        what: impl Into<String>,
    ) {
        let line = self.lines.line_at(part.offset);
        self.problems.add(Problem {
            kind: Some(self.kind),
            entry: Some(index + 1),
            name: name.map(str::to_owned),
            line: Some(line),
            field: field.map(str::to_owned),
            ..Problem::of_file(self.path, what)
        });
    }

    /// Parses the entry at `index`. If that fails, reports the mistake, and returns what is still readable.
    pub fn parse<T: DeserializeOwned>(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
    ) -> Result<T, PartialEntry> {
        part.object().map_err(|mistake| {
            let salvage = PartialEntry::from_part(part);
            self.report_mistake(index, part, salvage.name.as_deref(), mistake);
            salvage
        })
    }

    pub fn report_mistake(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
        name: Option<&str>,
        found: EntryMistake,
    ) {
        let what = match found.lines_below {
            0 => found.what,
            below => format!(
                "{} (in line {})",
                found.what,
                self.lines.line_at(part.offset) + below
            ),
        };
        self.report(index, part, name, found.field.as_deref(), what);
    }

    pub fn check_text(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
        name: Option<&str>,
        field: &str,
        text: &str,
    ) {
        if text.trim().is_empty() {
            self.report(index, part, name, Some(field), "it is empty");
        }
    }
}

/// The readable parts of an invalid entry.
pub(super) struct PartialEntry {
    pub id: Option<AssetId>,
    pub name: Option<String>,
}

impl PartialEntry {
    fn from_part(part: JsonSlice<'_>) -> Self {
        let value: serde_json::Value = serde_json::from_str(part.text).unwrap_or_default();
        let text = |field: &str| value.get(field)?.as_str();
        Self {
            id: text("id").and_then(|id| AssetId::parse(id).ok()),
            name: ["name", "id"].into_iter().find_map(text).map(str::to_owned),
        }
    }
}
