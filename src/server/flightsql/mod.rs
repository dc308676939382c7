//! The commands of Flight SQL: statements, parameters, metadata, ingest.

pub(super) mod commands;
pub(super) mod ingest;
pub(super) mod like_pattern;
pub(super) mod metadata;
mod result_messages;
pub(super) mod sql_info;
pub(super) mod statements;
