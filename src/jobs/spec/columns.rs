//! The names of the columns in raw files.

use serde::Deserialize;

/// The job whose file configures how raw files are read.
pub(super) const RESAMPLE: &str = "resample";

/// The names of the columns in the raw files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The column with the asset's UUID.
    pub id: String,
    /// The column with the reading's time.
    pub timestamp: String,
    /// The column with the reading's value.
    pub value: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".to_owned(),
            timestamp: "timestamp".to_owned(),
            value: "value".to_owned(),
        }
    }
}
