//! The RPCs of Arrow Flight and the actions, one file each.

pub(super) mod actions;
pub(super) mod put;
pub(super) mod queries;
pub(super) mod service;
pub(super) mod session_messages;
