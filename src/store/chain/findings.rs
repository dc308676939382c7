//! The deviations of a chain.

use serde::Serialize;

/// The maximum number of findings of one chain that are kept. Further ones are only counted.
const MAX_FINDINGS: usize = 1_000;

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A record was changed.
    Changed,
    /// A record was added by a program other than plantlake.
    Inserted,
    /// Records are missing.
    Removed,
    /// The last records are missing.
    Cut,
    /// Records of a month that are older than the chain were changed, added or removed.
    Anchor,
    /// The stored end was changed or removed.
    End,
    /// The chain was rewritten from some record on.
    Rewritten,
}

/// A deviation of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainFinding {
    /// The kind of the deviation.
    pub kind: FindingKind,
    /// The place in the chain, if there is one.
    pub sequence: Option<u64>,
    /// The record: the number of an entry, or the id of a request.
    pub record: Option<String>,
    /// A description in words.
    pub text: String,
}

impl ChainFinding {
    pub(super) fn for_chain(kind: FindingKind, text: String) -> Self {
        Self {
            kind,
            sequence: None,
            record: None,
            text,
        }
    }
}

/// The findings of a chain, and the number of further ones.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub found: Vec<ChainFinding>,
    pub more: u64,
}

impl Findings {
    pub fn push(&mut self, finding: ChainFinding) {
        match self.found.len() < MAX_FINDINGS {
            true => self.found.push(finding),
            false => self.more += 1,
        }
    }
}
