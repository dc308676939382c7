//! The journal: records of requests, written to files before the client knows the result, and kept until the ledger has
//! them.
//!
//! Each run of a server has its own folder under `<state>/journal`, which is locked while the server lives. The folder
//! contains append-only files of lines ([`entry::Entry`]). A file is deleted when all its entries are in the ledger; the
//! entries of requests in progress are copied to the newest file before. A folder whose lock is free belonged to a
//! server that died ([`dead_journal`]).

pub mod copies;
pub(super) mod dead_journal;
pub(super) mod entry;
mod error;
mod file_names;
mod journal_file;
mod live_journal;
mod position;
pub(super) mod reader;
mod recent;
mod sync;
#[cfg(test)]
mod tests;

pub use error::JournalError;
pub(super) use live_journal::Journal;
pub(super) use recent::{BUFFER_CAPACITY, NextRecords};
