//! All metrics of this process, and their text.

use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::connections::ConnectionMetrics;
use super::engine::EngineMetrics;
use super::health::Health;
use super::jobs::JobMetrics;
use super::lazy_gauge::LazyGauge;
use super::process;
use super::requests::{JournalMetrics, RequestMetrics};
use super::tables::TableMetrics;

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
