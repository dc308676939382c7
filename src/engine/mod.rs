//! The only builder of sessions and plans: tables, raw scans and the contexts that they run in.
//!
//! Every table takes what may be seen of it ([`crate::catalog::Visible`]), and keeps to it in its scan: no SQL goes
//! round that.

mod account_tables;
mod archive_schema;
mod batch;
mod budget;
mod cancellable_rules;
mod cancellation;
mod catalog_tables;
mod checked_aggregate;
mod checked_plan;
mod checked_window;
mod counted_scan;
mod even_batches;
mod fingerprint;
mod functions;
mod graph_tables;
mod grouping_limits;
mod guarded_scan;
mod ingest;
mod lanes;
mod named_tables;
mod optimised;
mod page_cache;
mod patience;
mod plan_limits;
mod public_schema;
mod published;
mod query_engine;
mod query_error;
mod raw_files;
mod raw_readings;
mod raw_scan;
mod rollup_table;
mod row_limits;
mod search_table;
mod sequential;
mod session;
mod sessions;
mod simple_statement;
mod spec_functions;
mod spec_json;
mod sql;
mod table_arguments;
mod task_memory;
mod tenant_scan;
mod usage_tables;
mod views;
mod visible_filter;
mod wanted;
mod weight;

pub use account_tables::Account;
pub use batch::batch_context;
pub use budget::MemoryLimits;
pub use cancellation::{CancelToken, Cancelled};
pub use even_batches::EvenBatches;
pub use fingerprint::Fingerprints;
pub use ingest::{Ingest, IngestAssets, IngestError};
pub use lanes::{CutShort, LaneLimits, Lanes, QueryTimer};
pub use optimised::OptimisedQuery;
pub use published::PublishedTables;
pub use query_engine::{Limits, QueryEngine, Scope};
pub use query_error::QueryError;
pub use raw_files::{INGESTED, RawFiles};
pub use raw_scan::{RawScanExec, ScanFile};
pub use session::{
    ACCOUNT, ARCHIVE, CATALOG, INFORMATION_SCHEMA, PUBLIC, QuerySession, ReadyQuery,
};
pub use sql::{Explain, LONGEST_SQL, MOST_OPERATORS, MOST_STACK, Query, SessionOption, Statement};
