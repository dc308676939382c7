//! The declaration of a job: its kind, schedule, timeout, retries and handling of missed times.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;

/// A kind of job: its name, and the arguments that a job of this kind accepts. `app` has the list of all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobKind {
    name: &'static str,
    arguments: &'static [(&'static str, ArgumentType)],
}

impl JobKind {
    /// Declares a kind with its arguments.
    pub const fn new(
        name: &'static str,
        arguments: &'static [(&'static str, ArgumentType)],
    ) -> Self {
        Self { name, arguments }
    }

    /// Returns the kind's name, as used in files and on the command line.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Returns the arguments that a job of this kind accepts, with the type of each.
    pub const fn arguments(self) -> &'static [(&'static str, ArgumentType)] {
        self.arguments
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentType {
    /// `true` or `false`.
    Boolean,
    /// A date, such as 2026-01-31.
    Date,
}

impl ArgumentType {
    /// Returns a phrase that describes the expected value.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "`true` or `false`",
            Self::Date => "a date such as 2026-01-31",
        }
    }
}

/// The value of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A value of type [`ArgumentType::Boolean`].
    Boolean(bool),
    /// A value of type [`ArgumentType::Date`].
    Date(NaiveDate),
}

/// The handling of scheduled times that passed while no process could run the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissedRunPolicy {
    /// The job runs once for all missed times, as soon as a process is available.
    #[default]
    Once,
    /// The job waits for the next scheduled time.
    Skip,
}

/// The declaration of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// The name of the job, which is that of its file.
    pub name: String,
    /// The kind of the job.
    pub kind: JobKind,
    /// The schedule; none if the job runs only on request.
    pub schedule: Option<Schedule>,
    /// The maximum duration of an attempt.
    pub timeout: Duration,
    /// The number of retries after a failure.
    pub retries: u32,
    /// The delay before the first retry. It doubles for each further retry.
    pub backoff: Duration,
    /// The handling of missed times.
    pub missed: MissedRunPolicy,
    /// The jobs whose runs for the same scheduled time must complete first.
    pub after: Vec<String>,
    /// The arguments by name.
    pub arguments: BTreeMap<String, Argument>,
}

impl JobSpec {
    /// Whether the argument `name` is `true`.
    pub fn is_set(&self, name: &str) -> bool {
        self.arguments.get(name) == Some(&Argument::Boolean(true))
    }

    /// Returns the date argument `name`, if it is given.
    pub fn date(&self, name: &str) -> Option<NaiveDate> {
        match self.arguments.get(name) {
            Some(Argument::Date(date)) => Some(*date),
            _ => None,
        }
    }
}
