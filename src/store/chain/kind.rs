//! The tables that chains cover.

use serde::{Deserialize, Serialize};

/// The table that a chain covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// The audit trail.
    Audit,
    /// The ledger of requests.
    Ledger,
}

impl ChainKind {
    /// Returns the name used in the database.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Ledger => "ledger",
        }
    }

    /// Returns the format that begins each hashed array.
    pub(super) fn format(self) -> &'static str {
        match self {
            Self::Audit => "plantlake audit 1",
            Self::Ledger => "plantlake ledger 1",
        }
    }
}

impl std::fmt::Display for ChainKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Audit => "audit trail",
            Self::Ledger => "ledger",
        })
    }
}
