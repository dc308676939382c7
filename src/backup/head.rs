//! What a backup says of itself, and the parts that it may have.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The number of the form that is written here.
pub const FORMAT: u64 = 1;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of its form.
    pub format: u64,
    /// The version of plantlake that made it.
    pub program: String,
    /// When it was begun.
    pub made_at: DateTime<Utc>,
    /// The machine that it was made on.
    pub host: String,
    /// The lake that it belongs to.
    pub lake: String,
    /// The organisation database, if that is in it.
    pub database: Option<DatabaseHead>,
    /// What is in it.
    pub parts: Vec<Part>,
}

/// What is to be known of a database before it is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseHead {
    /// `sqlite` or `postgres`: what it was. It may become either.
    pub kind: String,
    /// The version of its schema.
    pub schema: i64,
}

/// A part of what cannot be computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What the assets are.
    Catalog,
    /// What jobs are declared.
    Jobs,
    /// The keys that tokens are signed with.
    Keys,
    /// What runs on the lake did.
    Runs,
    /// Requests that may not be in the ledger yet.
    Journal,
    /// Who may do what, and what was used.
    Database,
}

impl Part {
    /// In the order in which they are in a backup. The database comes after the journal: what has left that is in it.
    pub const ALL: [Self; 6] = [
        Self::Catalog,
        Self::Jobs,
        Self::Keys,
        Self::Runs,
        Self::Journal,
        Self::Database,
    ];

    /// Its name, with which its members begin.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Jobs => "jobs",
            Self::Keys => "keys",
            Self::Runs => "runs",
            Self::Journal => "journal",
            Self::Database => "database",
        }
    }

    /// Whether its files are for their owner only.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Keys | Self::Journal)
    }

    /// The name of a member of it.
    pub fn member(self, file: &str) -> String {
        format!("{}/{file}", self.name())
    }

    /// The part that a member is of, and its file in it.
    pub fn of_member(member: &str) -> Option<(Self, &str)> {
        let (part, file) = member.split_once('/')?;
        Some((part.parse().ok()?, file))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let part = Self::ALL.into_iter().find(|part| part.name() == name);
        part.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no such part; there are {names}")
        })
    }
}
