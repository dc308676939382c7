//! The time of a maintenance run.

use chrono::{DateTime, Utc};

use crate::clock;
use crate::lake::storage::failpoint;

/// Returns the current time, or the time that a failpoint sets.
pub(super) fn now() -> DateTime<Utc> {
    failpoint::now().unwrap_or_else(clock::now)
}
