//! The only builder of sessions and plans: tables, raw scans and the contexts that they run in.
//!
//! Every table is created with the assets that its caller may see ([`crate::catalog::VisibleAssets`]), and its scan
//! returns no rows of others, so no SQL can bypass the restriction.

mod batch;
mod comparisons;
mod functions;
mod limits;
mod named_expressions;
mod plan;
mod query_error;
mod raw;
mod scan;
mod scheduler;
mod schema_names;
mod session;
mod sql;
mod statement_limits;
mod table_functions;
mod tables;

pub use batch::batch_context;
pub use limits::cancellation::{CancelToken, Cancelled};
pub use limits::resource_limits::MemoryLimits;
pub use plan::optimised::OptimisedQuery;
pub use query_error::QueryError;
pub use raw::ingest::{Ingest, IngestAssets, IngestError};
pub use raw::raw_files::{INGESTED, RawFiles};
pub use scan::even_batches::EvenBatches;
pub use scan::raw_scan::{RawScanExec, ScanFile};
pub use scheduler::{QueryAborted, QueryScheduler, QueryTimer, SchedulerLimits};
pub use schema_names::{ACCOUNT, ARCHIVE, CATALOG, INFORMATION_SCHEMA, PUBLIC};
pub use session::idle_cache::{IdleCache, IdleCacheLimits};
pub use session::query_engine::{Limits, QueryEngine, Scope};
pub use session::query_session::{LocalSources, QuerySession, ReadyQuery};
pub use sql::fingerprint::FingerprintCache;
pub use sql::statement::{Explain, Query, SessionOption, Statement};
pub use statement_limits::THREAD_STACK_BYTES;
pub use statement_limits::{MAX_OPERATORS, MAX_SQL_BYTES};
pub use table_functions::table_function_rows;
pub use tables::account::Account;
pub use tables::published::PublishedTables;
