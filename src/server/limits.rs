//! The limits of the server, on connections, messages and ingests.

use std::time::Duration;

use crate::config::Networks;

/// The maximum size of a sent message, in bytes: the limit of ADBC.
pub(super) const MAX_SENT_MESSAGE_BYTES: usize = 16 << 20;
/// The maximum size of a DoPut message, in bytes: enough for a million readings, which some clients send in one message.
pub(super) const MAX_PUT_MESSAGE_BYTES: usize = 64 << 20;
/// The maximum size of any other received message, in bytes: twice the size of the longest statement handle.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Limits on calls, other than those on queries.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Limits on connections and their requests.
    pub connections: ConnectionLimits,
    /// Limits on ingests.
    pub ingest: IngestLimits,
    /// The time limit for results in progress at shutdown.
    pub shutdown_timeout: Duration,
}

/// Limits on connections, and on the requests that arrive on them.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The maximum number of connections.
    pub total: usize,
    /// The maximum number of connections from one address.
    pub per_address: usize,
    /// The time limit for a handshake, and again for the headers of the first call.
    pub handshake_timeout: Duration,
    /// The time limit for a connection to present a valid credential.
    pub unauthenticated_timeout: Duration,
    /// The time limit for a message to arrive.
    pub message_timeout: Duration,
    /// The maximum memory for messages that arrive, in bytes.
    pub message_memory_bytes: u64,
    /// Proxies that are trusted to report client addresses.
    pub trusted_proxies: Networks,
    /// Whether they start connections with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// The limits of an ingest.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// The maximum size of the Arrow data, decompressed, in bytes.
    pub max_bytes: u64,
    /// The time limit for the next message.
    pub idle_timeout: Duration,
}
