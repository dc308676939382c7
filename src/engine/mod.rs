//! The only builder of sessions and plans: tables, raw scans and the contexts that they run in.
//!
//! Every table is created with the assets that its caller may see ([`crate::catalog::VisibleAssets`]), and its scan
//! returns no rows of others, so no SQL can bypass the restriction.

mod account_tables;
mod archive_schema;
mod batch;
mod cancellable_aggregate;
mod cancellable_plan;
mod cancellable_rules;
mod cancellable_window;
mod cancellation;
mod catalog_tables;
mod cost_estimate;
mod even_batches;
mod fingerprint;
mod functions;
mod graph_tables;
mod grouping_limits;
mod idle_cache;
mod ingest;
mod metered_scan;
mod optimised;
mod page_cache;
mod parse_budget;
mod plan_limits;
mod public_schema;
mod published;
mod query_engine;
mod query_error;
mod raw_files;
mod raw_readings;
mod raw_scan;
mod resource_limits;
mod rollup_table;
mod row_limits;
mod scan_pruning;
mod scheduler;
mod search_table;
mod sequential;
mod session;
mod session_cache;
mod short_times;
mod simple_statement;
mod spec_functions;
mod spec_json;
mod sql;
mod sql_tokens;
mod table_arguments;
mod table_limits;
mod task_memory;
mod tenant_filter_scan;
mod tenant_scan;
mod usage_tables;
mod views;
mod visible_filter;

pub use account_tables::Account;
pub use batch::batch_context;
pub use cancellation::{CancelToken, Cancelled};
pub use even_batches::EvenBatches;
pub use fingerprint::FingerprintCache;
pub use idle_cache::{IdleCache, IdleCacheLimits};
pub use ingest::{Ingest, IngestAssets, IngestError};
pub use optimised::OptimisedQuery;
pub use published::PublishedTables;
pub use query_engine::{Limits, QueryEngine, Scope};
pub use query_error::QueryError;
pub use raw_files::{INGESTED, RawFiles};
pub use raw_scan::{RawScanExec, ScanFile};
pub use resource_limits::MemoryLimits;
pub use scheduler::{QueryAborted, QueryScheduler, QueryTimer, SchedulerLimits};
pub use session::{
    ACCOUNT, ARCHIVE, CATALOG, INFORMATION_SCHEMA, PUBLIC, QuerySession, ReadyQuery,
};
pub use sql::{Explain, MAX_SQL_BYTES, Query, SessionOption, Statement, THREAD_STACK_BYTES};
pub use sql_tokens::MAX_OPERATORS;
