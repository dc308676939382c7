//! The configuration for reading raw files.

use chrono_tz::Tz;

use crate::model::Window;

/// The names of the three columns in raw files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnNames {
    /// The column with the asset's UUID.
    pub id: String,
    /// The column with the time.
    pub timestamp: String,
    /// The column with the value.
    pub value: String,
}

/// The configuration for reading raw files.
#[derive(Debug, Clone)]
pub struct RawFormat {
    /// The names of the columns.
    pub columns: ColumnNames,
    /// The time zone of timestamps that have none.
    pub timezone: Tz,
    /// The window of plausible times. Readings outside have no usable time.
    pub plausible: Window,
    /// Whether times that may be either of two instants are marked with [`AMBIGUOUS_TIME`](crate::model::AMBIGUOUS_TIME),
    /// so that they are counted. Otherwise, they are null.
    pub marks_ambiguous: bool,
}
