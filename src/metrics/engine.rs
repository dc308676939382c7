//! Metrics of queries: where they run, how long they wait, the memory and disk space that they use, and cache hits.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::buckets::LATENCIES;
use super::gauge_guard::GaugeGuard;
use super::lazy_gauge::LazyGauge;

/// The threads that a query runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The threads that serve calls; for short queries.
    Short,
    /// The threads for long queries, which need a permit.
    Long,
}

/// A cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Plans of statements.
    Plans,
    /// Pages of data files, in the page cache of the operating system.
    Pages,
    /// The principals of authenticated credentials.
    Credentials,
}

/// The reason why a result ended before it was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortReason {
    /// The query exceeded its time limit.
    TimeLimit,
    /// The query waited too long for a permit.
    PermitTimeout,
    /// The client stopped reading the result.
    ClientStalled,
    /// The query exceeded its memory limit, or its execution failed on the server's side.
    ResourceFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of queries and of the resources that they use.
#[derive(Debug)]
pub struct EngineMetrics {
    short: Gauge,
    long: Gauge,
    waiting: Gauge,
    wait_times: Histogram,
    aborted: Family<ReasonLabel, Counter>,
    /// Hits and misses of the caches for plans, pages and credentials, in this order.
    caches: [(Counter, Counter); 3],
    /// The maximum number of long queries that run at once.
    pub max_long_queries: LazyGauge,
    /// The memory that operators of queries hold, in bytes.
    pub memory_bytes: LazyGauge,
    /// The limit of [`Self::memory_bytes`].
    pub memory_limit_bytes: LazyGauge,
    /// The disk space that queries use for data that does not fit into memory, in bytes.
    pub spill_bytes: LazyGauge,
    /// The limit of [`Self::spill_bytes`].
    pub spill_limit_bytes: LazyGauge,
}

impl EngineMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let running: Family<LaneLabel, Gauge> = Family::default();
        let lane = |lane| running.get_or_create_owned(&LaneLabel { lane });
        let caches: Family<CacheLabels, Counter> = Family::default();
        let cache = |cache| {
            let result = |result| caches.get_or_create_owned(&CacheLabels { cache, result });
            (result("hit"), result("miss"))
        };
        let cut: Family<ReasonLabel, Counter> = Family::default();
        for reason in ["worked", "waited", "unread", "lost"] {
            drop(cut.get_or_create(&ReasonLabel { reason }));
        }
        let metrics = Self {
            short: lane("short"),
            long: lane("long"),
            waiting: Gauge::default(),
            wait_times: Histogram::new(LATENCIES),
            aborted: cut,
            caches: [cache("plans"), cache("pages"), cache("credentials")],
            max_long_queries: LazyGauge::default(),
            memory_bytes: LazyGauge::default(),
            memory_limit_bytes: LazyGauge::default(),
            spill_bytes: LazyGauge::default(),
            spill_limit_bytes: LazyGauge::default(),
        };
        registry.register("queries_running", "Queries in progress, by lane", running);
        registry.register(
            "queries_waiting",
            "Long queries that wait for a permit",
            metrics.waiting.clone(),
        );
        registry.register(
            "query_wait_seconds",
            "How long queries waited for a permit",
            metrics.wait_times.clone(),
        );
        registry.register(
            "queries_cut_short",
            "Results that ended before they were complete, by reason",
            metrics.aborted.clone(),
        );
        registry.register(
            "cache_requests",
            "Lookups in caches, by whether they were hits",
            caches,
        );
        let pulled = [
            (
                "query_places",
                "Maximum number of long queries that run at once (serve.queries)",
                &metrics.max_long_queries,
            ),
            (
                "query_memory_bytes",
                "Memory held for sorting, grouping and joining",
                &metrics.memory_bytes,
            ),
            (
                "query_memory_limit_bytes",
                "Maximum memory for sorting, grouping and joining (serve.total_memory)",
                &metrics.memory_limit_bytes,
            ),
            (
                "spill_bytes",
                "Disk space of data that queries spilled because it did not fit into memory",
                &metrics.spill_bytes,
            ),
            (
                "spill_limit_bytes",
                "Maximum disk space of spilled data (serve.spill)",
                &metrics.spill_limit_bytes,
            ),
        ];
        for (name, help, value) in pulled {
            registry.register(name, help, value.clone());
        }
        metrics
    }

    /// Counts a running query until the returned guard is dropped.
    pub fn track_running(&self, lane: Lane) -> GaugeGuard {
        GaugeGuard::new(match lane {
            Lane::Short => &self.short,
            Lane::Long => &self.long,
        })
    }

    /// Counts a query as waiting for a permit until the returned guard is dropped.
    pub fn track_waiting(&self) -> GaugeGuard {
        GaugeGuard::new(&self.waiting)
    }

    /// Records how long a query waited for a permit.
    pub fn record_wait(&self, time: Duration) {
        self.wait_times.observe(time.as_secs_f64());
    }

    /// Counts a result that ended before it was complete.
    pub fn count_aborted(&self, cut: AbortReason) {
        let reason = match cut {
            AbortReason::TimeLimit => "worked",
            AbortReason::PermitTimeout => "waited",
            AbortReason::ClientStalled => "unread",
            AbortReason::ResourceFailure => "lost",
        };
        self.aborted.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a cache lookup as a hit or a miss.
    pub fn count_lookup(&self, cache: Cache, found: bool) {
        let [plans, pages, credentials] = &self.caches;
        let (hits, misses) = match cache {
            Cache::Plans => plans,
            Cache::Pages => pages,
            Cache::Credentials => credentials,
        };
        match found {
            true => hits.inc(),
            false => misses.inc(),
        };
    }
}
