//! Connections: accepting them, TLS, client addresses, limits.

pub(super) mod listener;
pub(super) mod proxies;
pub(super) mod registry;
pub(super) mod tls;
pub(super) mod validity;
