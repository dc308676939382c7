//! What an operator declares about a job: when it runs, for how long, and what is done if it does not.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::Schedule;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Raw files to averages.
    Resample,
    /// Recent averages to the mirror database.
    Mirror,
    /// The catalog to the index that is searched.
    Index,
    /// Files of the tables that nobody needs any more, and those that are too small.
    Maintain,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Resample, Self::Mirror, Self::Index, Self::Maintain];

    /// The kind as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resample => "resample",
            Self::Mirror => "mirror",
            Self::Index => "index",
            Self::Maintain => "maintain",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The arguments that a job of this kind may be given, and what each must be.
    pub const fn arguments(self) -> &'static [(&'static str, ArgumentType)] {
        match self {
            Self::Resample => &[
                ("full", ArgumentType::Boolean),
                ("from", ArgumentType::Date),
                ("to", ArgumentType::Date),
            ],
            Self::Index => &[("full", ArgumentType::Boolean)],
            Self::Mirror | Self::Maintain => &[],
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentType {
    /// `true` or `false`.
    Boolean,
    /// A date, such as 2026-01-31.
    Date,
}

impl ArgumentType {
    /// What is expected, as a phrase.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "`true` or `false`",
            Self::Date => "a date such as 2026-01-31",
        }
    }
}

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Of [`ArgumentType::Boolean`].
    Boolean(bool),
    /// Of [`ArgumentType::Date`].
    Date(NaiveDate),
}

/// What is done about times that passed while nobody was there to run the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It runs once for all of them, as soon as somebody is there.
    #[default]
    Once,
    /// It waits for the next time.
    Skip,
}

/// A job as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// Its name: that of its file.
    pub name: String,
    /// What it does.
    pub kind: JobKind,
    /// When; none for one that only runs when somebody asks for it.
    pub schedule: Option<Schedule>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often it is tried again when it fails.
    pub retries: u32,
    /// How long it waits before the first of these; before each further one, twice as long.
    pub backoff: Duration,
    /// What is done about times that passed.
    pub missed: Missed,
    /// Jobs whose run of the same time it waits for.
    pub after: Vec<String>,
    /// What it is told.
    pub arguments: BTreeMap<String, Argument>,
}

impl JobSpec {
    /// Whether the argument `name` is `true`.
    pub fn is_told(&self, name: &str) -> bool {
        self.arguments.get(name) == Some(&Argument::Boolean(true))
    }

    /// The date that the argument `name` is, if it is given.
    pub fn date(&self, name: &str) -> Option<NaiveDate> {
        match self.arguments.get(name) {
            Some(Argument::Date(date)) => Some(*date),
            _ => None,
        }
    }
}
