//! Metrics of client connections: how many are open, and how many were closed or refused to protect others.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::lazy_gauge::LazyGauge;

/// The reason for which the server closed a connection, or did not accept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// A limit on connections was reached. The connection was the oldest without a valid credential; or no such connection
    /// was left to close, or its organisation had too many connections, and it was refused.
    Full,
    /// The connection did not finish the TLS handshake, or presented no valid credential, in time.
    Timeout,
    /// The client cancelled too many calls, or presented too many invalid credentials.
    Misuse,
}

impl CloseReason {
    const ALL: [Self; 3] = [Self::Full, Self::Timeout, Self::Misuse];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Misuse => "misuse",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of client connections.
#[derive(Debug)]
pub struct ConnectionMetrics {
    /// The number of open connections.
    pub open: LazyGauge,
    closed: [Counter; 3],
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let open = LazyGauge::default();
        registry.register(
            "open_connections",
            "Open connections of clients",
            open.clone(),
        );
        let family: Family<ReasonLabel, Counter> = Family::default();
        registry.register(
            "closed_connections",
            "Connections that the server closed or refused to protect others",
            family.clone(),
        );
        let closed = CloseReason::ALL.map(|reason| {
            family.get_or_create_owned(&ReasonLabel {
                reason: reason.name(),
            })
        });
        Self { open, closed }
    }

    /// Counts a connection that the server closed or refused.
    pub fn count_closed(&self, reason: CloseReason) {
        let [full, timeout, misuse] = &self.closed;
        match reason {
            CloseReason::Full => full,
            CloseReason::Timeout => timeout,
            CloseReason::Misuse => misuse,
        }
        .inc();
    }
}
