//! Sessions: the schemas that a caller sees, and the planning of statements on them.

pub(super) mod archive_schema;
pub(super) mod base_state;
mod bound_values;
pub(super) mod equal_names;
pub(super) mod idle_cache;
pub(super) mod public_schema;
pub(super) mod query_engine;
pub(super) mod query_session;
pub(super) mod session_cache;
pub(super) mod views;
