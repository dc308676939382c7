//! The reasons why a catalog cannot be used: each mistake with its file, entry and field.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The maximum number of mistakes in an error's text; [`CatalogError::problems`] has more.
const MAX_SHOWN_PROBLEMS: usize = 20;
/// The maximum number of mistakes that are kept; a file that is wrong throughout must not exhaust the memory.
const MAX_KEPT_PROBLEMS: usize = 1_000;
/// The maximum length of a mistake's text, in characters; the values that it quotes may have any length.
const MAX_PROBLEM_CHARS: usize = 300;

/// The reason why a catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The operating system refused the operation.
    #[error(
        "cannot {action} the catalog file {path}; check that the folder exists, and its permissions"
    )]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The files do not have the documented form, or do not agree with each other.
    #[error("{0}")]
    Invalid(Problems),
    /// A value has no JSON form.
    #[error("cannot encode the catalog as JSON")]
    Encode {
        /// The error from serde.
        source: serde_json::Error,
    },
}

impl CatalogError {
    /// Returns the individual mistakes: up to 1,000, and the number of further ones.
    pub fn problems(&self) -> Problems {
        match self {
            Self::Invalid(problems) => problems.clone(),
            Self::Io { path, source, .. } => {
                let mut problems = Problems::default();
                problems.add(Problem::of_file(path, format!("{self}: {source}")));
                problems
            }
            Self::Encode { source } => {
                let mut problems = Problems::default();
                problems.add(Problem::of_file(Path::new(""), format!("{self}: {source}")));
                problems
            }
        }
    }
}

/// The mistakes of a catalog, in the order of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    more: usize,
}

/// One mistake, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The kind of the entry; `None` if the whole file is wrong.
    pub kind: Option<EntryKind>,
    /// The entry's number in its list, from 1.
    pub entry: Option<usize>,
    /// The entry's name, if it can be determined.
    pub name: Option<String>,
    /// The line in which the entry begins, from 1.
    pub line: Option<usize>,
    /// The path of the field: `specifications.range_low`.
    pub field: Option<String>,
    /// The mistake, and its remedy.
    pub what: String,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// An asset, in `assets.json` or `id2assets.json`.
    Asset,
    /// A node of the graph.
    Node,
    /// An edge of the graph.
    Edge,
}

impl Problems {
    /// Iterates over the mistakes that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.kept.iter()
    }

    /// Returns the total number of mistakes.
    pub fn count(&self) -> usize {
        self.kept.len() + self.more
    }

    /// Returns the first `limit` mistakes, one per line, and the number of further ones.
    pub fn list(&self, limit: usize) -> String {
        let mut lines: Vec<String> = self.iter().take(limit).map(Problem::to_string).collect();
        match self.count() - lines.len() {
            0 => {}
            more => lines.push(format!("and {more} more")),
        }
        lines.join("\n")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(super) fn add(&mut self, mut problem: Problem) {
        if self.kept.len() == MAX_KEPT_PROBLEMS {
            self.more += 1;
            return;
        }
        problem.what = sanitise(&problem.what);
        problem.field = problem.field.map(|field| sanitise(&field));
        self.kept.push(problem);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept.as_slice() {
            [problem] if self.more == 0 => write!(f, "invalid catalog: {problem}"),
            _ => write!(
                f,
                "invalid catalog: {} mistakes\n{}",
                self.count(),
                self.list(MAX_SHOWN_PROBLEMS)
            ),
        }
    }
}

impl Problem {
    /// Returns a mistake that concerns a whole file.
    pub(super) fn of_file(path: &Path, what: impl Into<String>) -> Self {
        Self {
            file: path.display().to_string(),
            kind: None,
            entry: None,
            name: None,
            line: None,
            field: None,
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(kind), Some(entry)) = (self.kind, self.entry) {
            let word = match kind {
                EntryKind::Asset => "entry",
                EntryKind::Node => "node",
                EntryKind::Edge => "edge",
            };
            write!(f, ", {word} {entry}")?;
        }
        match (&self.name, self.line, self.entry) {
            (Some(name), Some(line), _) => write!(f, " ({name:?}, line {line})")?,
            (None, Some(line), Some(_)) => write!(f, " (line {line})")?,
            (None, Some(line), None) => write!(f, ", line {line}")?,
            _ => {}
        }
        if let Some(field) = &self.field {
            write!(f, ", field {field}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Returns `text` on one line, without control characters and truncated: data must not be able to control the terminal.
fn sanitise(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_PROBLEM_CHARS));
    for (at, c) in text.chars().enumerate() {
        if at == MAX_PROBLEM_CHARS {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
