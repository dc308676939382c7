//! The end of a response, and who caused it.

use crate::model::UsageRecord;

/// The end of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseEnd {
    /// The status as gRPC names it: `OK`, `INVALID_ARGUMENT`, …
    pub status: &'static str,
    /// The party that ended it.
    pub by: EndedBy,
}

/// The party that ended a response. It decides whether a response of which nothing was sent is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The client, the organisation's admins or the statement: it is billed.
    Caller,
    /// The server: it is billed if rows were sent until then.
    Server,
    /// A quota of the organisation: it is billed if anything was sent until then.
    Quota,
}

impl EndedBy {
    /// Whether a request that ran is billed.
    pub(super) fn is_billable(self, record: &UsageRecord) -> bool {
        match self {
            Self::Caller => true,
            Self::Server => record.rows > 0,
            Self::Quota => record.bytes_sent > 0,
        }
    }
}
