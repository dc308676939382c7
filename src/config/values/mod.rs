//! The value types of settings, and their parsers.

mod byte_size;
mod choices;
pub(super) mod database_url;
pub(super) mod location;
mod log;
pub(super) mod money;
mod names;
mod network;
pub(super) mod networks;
mod numbers;
pub(super) mod secret;
pub(super) mod storage;
mod times;

pub use byte_size::size;
pub(super) use byte_size::{file_size, journal_size, memory};
pub use choices::{ExpiryAction, JournalFullAction};
pub(super) use choices::{boolean, expiry_action, journal_full};
pub use log::LogFormat;
pub(super) use log::{log_filter, log_format};
pub(super) use names::{check_not_empty, collection, folder, model, name, optional_file};
pub use network::WebhookUrl;
pub(super) use network::{address, api_key, optional_address, qdrant_url};
pub(super) use numbers::{MAX_THREADS, connections, count_limit, threads};
pub use times::{MAX_TOKEN_LIFETIME, TimeBound, duration, timezone};
pub(super) use times::{
    earliest, grace_period, history_time, latest, retention_time, retry_time, timeout,
    token_lifetime, window,
};
