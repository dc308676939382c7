//! The only builder of sessions and plans: tables, raw scans and the contexts that they run in.

mod batch;
mod catalog_tables;
mod raw_scan;
mod rollup_table;
mod session;

pub use batch::batch_context;
pub use raw_scan::RawScanExec;
pub use session::{QueryError, QuerySession};
