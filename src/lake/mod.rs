//! The lake: raw files, Delta tables, the records of runs, and the object store that holds them.

mod commit;
mod data_file;
mod data_file_reader;
pub mod failpoint;
mod history;
pub mod lease;
pub mod parquet_upload;
mod pinned_file;
mod probe;
pub mod raw;
pub mod runs;
pub mod scanned_bytes;
mod store;
pub mod table;
mod table_columns;
mod table_maintenance;

pub use probe::ProbeError;
pub use store::{Store, StoreError, StoreOptions, local_folder};
