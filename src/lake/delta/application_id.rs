//! The application in whose name runs commit.

/// The application id of the resample job's transactions in the Delta logs.
pub(in crate::lake) const APPLICATION_ID: &str = "resample";
