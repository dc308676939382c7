//! Raw readings at the server: the facts about raw files, and the ingest of readings from clients.

pub(super) mod ingest;
pub(super) mod raw_files;
