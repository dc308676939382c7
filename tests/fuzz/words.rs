//! The word lists of `words.txt`: tables and columns, boundary values, and fragments of SQL.

use std::collections::HashMap;
use std::sync::LazyLock;

use fastrand::Rng;

/// The kind of an expression's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Number,
    Text,
    Instant,
    Span,
    Truth,
    List,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Number,
        Self::Text,
        Self::Instant,
        Self::Span,
        Self::Truth,
        Self::List,
    ];

    /// Returns the name of the section that lists values of this kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Instant => "instant",
            Self::Span => "span",
            Self::Truth => "truth",
            Self::List => "list",
        }
    }

    /// Returns the kind of a type that is named as in `information_schema`.
    pub fn of_type(name: &str) -> Self {
        let begins = |beginning| name.starts_with(beginning);
        match name {
            _ if name.contains("List") => Self::List,
            _ if name.contains("Utf8") || name == "String" => Self::Text,
            _ if begins("Timestamp") || begins("Date") || begins("Time(") => Self::Instant,
            _ if begins("Interval") || begins("Duration") => Self::Span,
            "Boolean" => Self::Truth,
            _ => Self::Number,
        }
    }
}

/// A table and its columns.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<(&'static str, Kind)>,
}

static WORDS: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    let text = include_str!("words.txt");
    let sections = text.split("\n\n=== ").skip(1).map(|section| {
        let (name, words) = section.split_once(" ===\n").unwrap();
        let words = words.lines().map(|word| {
            word.replace("<NUL>", "\0")
                .replace("<TAB>", "\t")
                .replace("<CR>", "\r")
                .replace("<NL>", "\n")
        });
        (name.to_owned(), words.collect())
    });
    sections.collect()
});

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let tables = words("tables").iter().map(|line| {
        let (name, columns) = line.split_once(": ").unwrap();
        let columns = columns.split(", ").map(|column| {
            let (name, kind) = column.split_once(' ').unwrap();
            let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
            (name, kind.unwrap())
        });
        Table {
            name,
            columns: columns.collect(),
        }
    });
    tables.collect()
});

/// Returns the words of a section.
pub fn words(section: &str) -> &'static [String] {
    &WORDS[section]
}

/// Returns a random word of a section.
pub fn word(random: &mut Rng, section: &str) -> &'static str {
    let words = words(section);
    &words[random.usize(..words.len())]
}

/// Returns a random table.
pub fn table(random: &mut Rng) -> Table {
    TABLES[random.usize(..TABLES.len())].clone()
}
