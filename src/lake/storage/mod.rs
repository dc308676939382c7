//! The object store of a lake, and reading and writing of files in it.

pub mod failpoint;
pub mod parquet_upload;
pub(super) mod pinned_file;
pub(super) mod probe;
pub mod scanned_bytes;
pub(super) mod store;
