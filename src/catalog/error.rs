//! Why a catalog cannot be used: each mistake with the file, the entry and the field that it is in.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Mistakes that an error's text has; more are for [`CatalogError::problems`].
const SHOWN: usize = 20;
/// Mistakes that are kept; a file that is wrong throughout must not fill the memory.
const KEPT: usize = 1_000;
/// Characters of a mistake that are kept: the values that it quotes may have any length.
const LONGEST: usize = 300;

/// Why a catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The operating system refused.
    #[error(
        "the catalog file {path} cannot be {action}; check that the folder exists and that you may use it"
    )]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The files are not of the documented form, or do not agree with each other.
    #[error("{0}")]
    Invalid(Problems),
    /// A value has no JSON form.
    #[error("the catalog cannot be turned into JSON")]
    Encode {
        /// What serde says.
        source: serde_json::Error,
    },
}

impl CatalogError {
    /// The mistakes one by one: up to 1,000, and how many more there are.
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
    /// What the entry describes; none where the whole file is wrong.
    pub kind: Option<EntryKind>,
    /// The entry's number in its list, from 1.
    pub entry: Option<usize>,
    /// What the entry is called, if that can be told.
    pub name: Option<String>,
    /// The line that the entry begins in, from 1.
    pub line: Option<usize>,
    /// The path of the field: `specifications.range_low`.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// What an entry describes.
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
    /// The mistakes, without those that are too many to keep.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.kept.iter()
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.kept.len() + self.more
    }

    /// The first `limit` of them, one a line, and how many more there are.
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
        if self.kept.len() == KEPT {
            self.more += 1;
            return;
        }
        problem.what = clean(&problem.what);
        problem.field = problem.field.map(|field| clean(&field));
        self.kept.push(problem);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept.as_slice() {
            [problem] if self.more == 0 => write!(f, "the catalog cannot be used: {problem}"),
            _ => write!(
                f,
                "the catalog cannot be used, it has {} mistakes:\n{}",
                self.count(),
                self.list(SHOWN)
            ),
        }
    }
}

impl Problem {
    /// A mistake of a whole file.
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

/// `text` on one line, without control characters: data must not be able to drive the terminal.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for (at, c) in text.chars().enumerate() {
        if at == LONGEST {
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
