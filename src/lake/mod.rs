//! The lake: raw files, Delta tables, the records of runs, and the object store that holds them.

pub mod delta;
pub mod raw;
pub mod records;
pub mod storage;

pub use storage::probe::ProbeError;
pub use storage::store::{Store, StoreError, StoreOptions, local_folder};
