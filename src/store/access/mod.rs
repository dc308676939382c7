//! Access: organisations, users, keys, sessions, grants, limits, and the audit trail.

pub(super) mod access_change;
pub(super) mod actor;
pub(super) mod audit;
pub(super) mod audit_entry;
pub(super) mod grants;
pub(super) mod keys;
pub(super) mod limits;
pub(super) mod organisations;
pub(super) mod sessions;
pub(super) mod users;
