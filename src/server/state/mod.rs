//! The state that all calls share: limits, caches, tickets, and running queries.

pub(super) mod ingest_permits;
pub(super) mod parameters;
pub(super) mod plan_cache;
pub(super) mod planning;
pub(super) mod redeemed_tickets;
pub(super) mod running_queries;
pub(super) mod server;
pub(super) mod session_options;
pub(super) mod tenants;
pub(super) mod ticket;
