//! The state of a meter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use uuid::Uuid;

use super::journal::Journal;
use super::ledger::Ledger;
use super::quotas::Quotas;
use super::settings::MeterSettings;
use super::unknown_callers::UnknownCallers;

/// The state that a meter and its requests share.
#[derive(Debug)]
pub(super) struct MeterState {
    pub server: Uuid,
    pub settings: MeterSettings,
    pub journal: Journal,
    pub ledger: Ledger,
    pub quotas: Arc<Quotas>,
    pub unknown_callers: UnknownCallers,
    /// The number of requests that were answered, but not recorded.
    pub dropped: AtomicU64,
    /// The number of requests in progress.
    pub open: AtomicU64,
    /// Whether the server is shutting down. If so, it cuts off the remaining responses, not their clients.
    pub is_shutting_down: AtomicBool,
}
