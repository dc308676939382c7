//! The reasons for which requests over a limit are refused.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::metrics::{Limit, METRICS};
use crate::model::Month;

/// The kind of work that a rate limit applies to. Each kind has its own bucket, since a prepared query is executed as
/// well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitKind {
    /// Executes a query or another request for data.
    Query,
    /// Prepares a statement.
    Prepare,
    /// Runs an action of the session or of administration.
    Action,
}

/// The reason for which a request is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LimitExceeded {
    /// Too many requests per second.
    #[error("rate limit exceeded: {limit} requests per second; try again in a moment")]
    Rate {
        /// The limit.
        limit: f64,
        /// The time after which the next request is admitted.
        retry_after: Duration,
    },
    /// Too many concurrent queries.
    #[error("limit exceeded: {limit} concurrent queries; try again when one has ended")]
    Concurrency {
        /// The limit.
        limit: u64,
    },
    /// A monthly quota is used up.
    #[error(
        "exceeded the quota of {quota} for {month}: {used} of {limit}; it resets at {}",
        resets_at.format("%Y-%m-%dT%H:%MZ")
    )]
    Quota {
        /// The name of the quota, such as `monthly_requests`.
        quota: &'static str,
        /// The amount used.
        used: u64,
        /// The limit.
        limit: u64,
        /// The month.
        month: Month,
        /// The time at which the next month begins.
        resets_at: DateTime<Utc>,
    },
}

impl LimitExceeded {
    /// Counts a refusal in the metrics.
    pub(super) fn count(&self) {
        METRICS.requests.count_over_limit(match self {
            Self::Rate { .. } => Limit::Rate,
            Self::Concurrency { .. } => Limit::Concurrency,
            Self::Quota { .. } => Limit::Quota,
        });
    }
}
