//! Prometheus metrics of this process. All metrics are declared here.
//!
//! Events are counted where they happen, by a few atomic additions. A value that is known only when the metrics are
//! gathered (memory, queues) is a [`LazyGauge`], for which its owner sets a source. `http` serves `/metrics`,
//! `/healthz` and `/readyz`.
//!
//! Names begin with `plantlake_`, and units are seconds and bytes. Labels have few values: kinds, statuses, tables, and the
//! names of jobs; never text that a client sends.

mod buckets;
mod connections;
mod engine;
mod gauge_guard;
mod health;
pub mod health_check;
pub mod http;
mod jobs;
mod lazy_gauge;
mod process;
mod registry;
mod requests;
mod result_label;
mod tables;

pub use connections::{CloseReason, ConnectionMetrics};
pub use engine::{AbortReason, Cache, EngineMetrics, Lane};
pub use gauge_guard::GaugeGuard;
pub use health::Health;
pub use jobs::JobMetrics;
pub use lazy_gauge::LazyGauge;
pub use registry::{METRICS, Metrics};
pub use requests::{EndedRequest, JournalMetrics, Limit, RequestKind, RequestMetrics};
pub use tables::{TableMetrics, WaitingFiles};
