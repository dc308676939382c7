//! The lake: raw files, Delta tables, the records of runs, and the object store that holds them.

mod commit;
mod data_file;
pub mod failpoint;
pub mod growing_file;
mod history;
pub mod lease;
mod pinned;
mod probe;
pub mod raw;
pub mod runs;
pub mod scanned;
mod store;
pub mod table;
mod upkeep;

pub use probe::ProbeError;
pub use store::{Store, StoreError, StoreOptions};
