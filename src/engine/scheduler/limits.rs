//! The limits of long queries, and of short ones on serving threads.

use std::time::Duration;

/// The time for which a query that was estimated as short runs on the serving thread before it is moved to the threads
/// for long queries.
pub(super) const SHORT_QUERY_TIMEOUT: Duration = Duration::from_millis(30);

/// The limits of long queries.
#[derive(Debug, Clone, Copy)]
pub struct SchedulerLimits {
    /// The maximum number of long queries that run at once.
    pub permits: usize,
    /// The number of threads for each organisation.
    pub threads: usize,
    /// The stack size of each thread, in bytes.
    pub stack_bytes: usize,
    /// The maximum time to plan and run a query.
    pub query_timeout: Duration,
    /// The maximum time to wait for a permit.
    pub queue_timeout: Duration,
    /// The maximum time for which a result may stay unread.
    pub unread_timeout: Duration,
}
