//! The results of checks.

use std::error::Error;

use serde::Serialize;

use crate::model::with_causes;

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
    pub(super) fn right(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            standing: Severity::Right,
            found: found.into(),
            todo: String::new(),
        }
    }

    pub(super) fn note(
        what: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            what,
            standing: Severity::Note,
            found: found.into(),
            todo: todo.into(),
        }
    }

    pub(super) fn wrong(
        what: &'static str,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            what,
            standing: Severity::Wrong,
            found: found.into(),
            todo: todo.into(),
        }
    }

    /// Returns a finding for an error: its texts may suggest a fix already, and `todo` suggests another.
    pub(super) fn failed(what: &'static str, error: &(dyn Error + 'static), todo: &str) -> Self {
        Self::wrong(what, with_causes(error), todo)
    }
}
