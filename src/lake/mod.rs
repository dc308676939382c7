//! The lake: raw files, Delta tables, the record of runs, and the object store below them all.

mod store;

pub use store::{Store, StoreError, StoreOptions};
