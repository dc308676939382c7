//! What `plantlake doctor` looks at: everything that plantlake needs, tried out one by one, each with what is to be done.
//!
//! | file | what it looks at |
//! |---|---|
//! | `configured` | settings that do not go together, jobs, ports, TLS |
//! | `folders` | what must be written, what must be private, the room on disks |
//! | `stored` | the lake, its raw files and tables, the catalog |
//! | `reached` | databases, the index, models |
//! | `clocks` | what time it is elsewhere |
//!
//! Nothing is changed, but that a small file is written where plantlake must be able to, and removed. No secret is told: what is
//! found is in the words of errors and settings that mask them.

mod clocks;
mod configured;
mod folders;
mod reached;
mod stored;

use std::error::Error;

use serde::Serialize;

use crate::config::{InForce, Settings, redact};
use crate::model::with_causes;
use clocks::Clocks;

/// How it stands with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Right,
    /// It works, but somebody should know.
    Note,
    /// Something will not work.
    Wrong,
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it stands with it.
    pub standing: Standing,
    /// What was found.
    pub found: String,
    /// What is to be done about it; empty if all is right.
    pub todo: String,
}

impl Finding {
    fn right(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            standing: Standing::Right,
            found: found.into(),
            todo: String::new(),
        }
    }

    fn note(what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            what,
            standing: Standing::Note,
            found: found.into(),
            todo: todo.into(),
        }
    }

    fn wrong(what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            what,
            standing: Standing::Wrong,
            found: found.into(),
            todo: todo.into(),
        }
    }

    /// An error whose words say what is to be done, or else `todo` does.
    fn failed(what: &'static str, error: &(dyn Error + 'static), todo: &str) -> Self {
        Self::wrong(what, with_causes(error), todo)
    }
}

/// Looks at everything, in the order in which it would be set up.
pub async fn examine(settings: &Settings, in_force: &[InForce]) -> Vec<Finding> {
    let mut findings = configured::look(settings, in_force).await;
    let mut clocks = Clocks::default();
    findings.extend(folders::look(settings));
    findings.extend(stored::look(settings, &mut clocks).await);
    findings.extend(reached::look(settings, &mut clocks).await);
    findings.push(clocks.finding());
    for finding in &mut findings {
        finding.found = redact(&finding.found).into_owned();
        finding.todo = redact(&finding.todo).into_owned();
    }
    findings
}
