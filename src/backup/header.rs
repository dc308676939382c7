//! The header of a backup, and the parts that a backup may contain.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The version of the backup format that this program writes.
pub const FORMAT: u64 = 1;

/// The header of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// The version of the backup format.
    pub format: u64,
    /// The version of plantlake that made it.
    pub program: String,
    /// The time at which the backup started.
    pub made_at: DateTime<Utc>,
    /// The machine that it was made on.
    pub host: String,
    /// The lake that it belongs to.
    pub lake: String,
    /// The organisation database; `None` if the backup does not contain it.
    pub database: Option<DatabaseHeader>,
    /// The parts that the backup contains.
    pub parts: Vec<Part>,
}

/// The properties of a database that must be known before it is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseHeader {
    /// The kind of database that was backed up: `sqlite` or `postgres`. It can be restored to either.
    pub kind: String,
    /// The version of its schema.
    pub schema: i64,
}

/// A part of the data that cannot be recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The asset catalog.
    Catalog,
    /// The declarations of jobs.
    Jobs,
    /// The keys that tokens are signed with.
    Keys,
    /// The log of the runs on the lake.
    Runs,
    /// The metering journal: requests that may not be in the ledger yet.
    Journal,
    /// The organisation database: organisations, users, grants and recorded usage.
    Database,
}

impl Part {
    /// All parts, in the order in which a backup contains them. The database comes after the journal, so that requests
    /// that leave the journal during the backup are in the database.
    pub const ALL: [Self; 6] = [
        Self::Catalog,
        Self::Jobs,
        Self::Keys,
        Self::Runs,
        Self::Journal,
        Self::Database,
    ];

    /// Returns the name of the part, which is the first path component of its members.
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

    /// Whether only the owner may read the files of the part.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Keys | Self::Journal)
    }

    /// Returns the name of the member that holds `file` of this part.
    pub fn member_name(self, file: &str) -> String {
        format!("{}/{file}", self.name())
    }

    /// Splits the name of a member into its part and the file within the part; `None` if there is no such part.
    pub fn split_member(member: &str) -> Option<(Self, &str)> {
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
            format!("unknown part; the parts are {names}")
        })
    }
}
