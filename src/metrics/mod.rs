//! Prometheus metrics of this process. All metrics are declared here.
//!
//! Events are counted where they happen, by a few atomic additions. A value that is known only when the metrics are
//! gathered (memory, queues) is a [`LazyGauge`], for which its owner sets a source. `http` serves `/metrics`,
//! `/healthz` and `/readyz`.
//!
//! Names begin with `plantlake_`, and units are seconds and bytes. Labels have few values: kinds, statuses, tables, and the
//! names of jobs; never text that a client sends.

mod connections;
mod engine;
mod gauge_guard;
mod health;
pub mod health_check;
pub mod http;
mod jobs;
mod lazy_gauge;
mod process;
mod requests;
mod tables;

use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use connections::{CloseReason, ConnectionMetrics};
pub use engine::{AbortReason, Cache, EngineMetrics, Lane};
pub use gauge_guard::GaugeGuard;
pub use health::Health;
pub use jobs::JobMetrics;
pub use lazy_gauge::LazyGauge;
pub use requests::{EndedRequest, JournalMetrics, Limit, RequestKind, RequestMetrics};
pub use tables::{TableMetrics, WaitingFiles};

/// The buckets of histograms for latencies that users experience, in seconds: 1 ms to 10 minutes.
const LATENCIES: [f64; 15] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0,
];
/// The buckets of histograms for background work, in seconds: 0.1 s to 6 hours.
const DURATIONS: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 7_200.0, 21_600.0,
];

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Connections of clients.
    pub connections: ConnectionMetrics,
    /// Calls of clients.
    pub requests: RequestMetrics,
    /// The journal of requests.
    pub journal: JournalMetrics,
    /// Queries and the resources that they use.
    pub engine: EngineMetrics,
    /// Jobs of the schedule.
    pub jobs: JobMetrics,
    /// The lake's tables, the catalog and the mirror.
    pub tables: TableMetrics,
    /// The readiness of this process.
    pub health: Health,
    /// The time at which the server's certificate expires, in seconds since the epoch.
    pub certificate_expiry: LazyGauge,
    registry: Mutex<Registry>,
}

/// The outcome of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    profile: &'static str,
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        process::register(&mut registry);
        let own = registry.sub_registry_with_prefix("plantlake");
        let build: Family<BuildLabels, Gauge> = Family::default();
        let labels = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        };
        build.get_or_create(&labels).set(1);
        own.register(
            "build_info",
            "Always 1; the labels contain the version and the build profile",
            build,
        );
        let certificate_expiry = LazyGauge::default();
        own.register(
            "certificate_expiry_timestamp_seconds",
            "When the server's certificate expires, in seconds since 1970",
            certificate_expiry.clone(),
        );
        Self {
            connections: ConnectionMetrics::register(own),
            requests: RequestMetrics::register(own),
            journal: JournalMetrics::register(own),
            engine: EngineMetrics::register(own),
            jobs: JobMetrics::register(own),
            tables: TableMetrics::register(own),
            health: Health::register(own),
            certificate_expiry,
            registry: Mutex::new(registry),
        }
    }

    /// Returns all metrics in the text format of Prometheus.
    pub fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::with_capacity(16 << 10);
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn text_names_are_unique_and_have_help() {
        let text = METRICS.text();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len());
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            assert!(
                name.starts_with("plantlake_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
    }
}
