//! The checks of `plantlake doctor`: each tests one thing that plantlake needs, and suggests a fix.
//!
//! | file | checks |
//! |---|---|
//! | `configuration` | combinations of settings, jobs, ports, TLS |
//! | `folders` | write access, private files, free space on disks |
//! | `storage` | the lake, its raw files and tables, the catalog |
//! | `services` | databases, the search index, models |
//! | `clocks` | differences between clocks |
//!
//! Nothing is changed, except that a small file is written and removed where plantlake must be able to write. No secret
//! is printed: findings contain only texts of errors and settings, which mask secrets.

mod clocks;
mod configuration;
mod folders;
mod services;
mod storage;

use std::error::Error;

use serde::Serialize;

use crate::config::{EffectiveSetting, Settings, redact};
use crate::model::with_causes;
use clocks::Clocks;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The checked thing is as required.
    Right,
    /// The checked thing works, but the operator should know about the finding.
    Note,
    /// The checked thing will not work.
    Wrong,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the checked thing.
    pub what: &'static str,
    /// The severity.
    pub standing: Severity,
    /// The observation.
    pub found: String,
    /// The suggested fix; empty if no fix is needed.
    pub todo: String,
}

impl Finding {
    fn right(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            standing: Severity::Right,
            found: found.into(),
            todo: String::new(),
        }
    }

    fn note(what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            what,
            standing: Severity::Note,
            found: found.into(),
            todo: todo.into(),
        }
    }

    fn wrong(what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            what,
            standing: Severity::Wrong,
            found: found.into(),
            todo: todo.into(),
        }
    }

    /// Returns a finding for an error: its texts may suggest a fix already, and `todo` suggests another.
    fn failed(what: &'static str, error: &(dyn Error + 'static), todo: &str) -> Self {
        Self::wrong(what, with_causes(error), todo)
    }
}

/// Runs all checks, in the order in which an installation is set up.
pub async fn examine(settings: &Settings, in_force: &[EffectiveSetting]) -> Vec<Finding> {
    let mut findings = configuration::check(settings, in_force).await;
    let mut clocks = Clocks::default();
    findings.extend(folders::check(settings));
    findings.extend(storage::check(settings, &mut clocks).await);
    findings.extend(services::check(settings, &mut clocks).await);
    findings.push(clocks.finding());
    for finding in &mut findings {
        finding.found = redact(&finding.found).into_owned();
        finding.todo = redact(&finding.todo).into_owned();
    }
    findings
}
