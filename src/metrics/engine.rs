//! Queries: where they are worked on, what they take, and what is found in caches.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{LATENCIES, Pulled, Running};

/// Where a query is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Where it was asked for: it is done within a moment.
    Short,
    /// On the threads for long ones, in turns.
    Long,
}

/// What is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Plans of statements.
    Plans,
    /// Pages of data files, in the system's memory.
    Pages,
    /// Who presents which credential.
    Credentials,
}

/// Why an answer ended before it was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It was worked on for too long.
    Worked,
    /// There was no place for too long.
    Waited,
    /// It was not read.
    Unread,
    /// The work broke off.
    Lost,
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

/// Queries, and what they take.
#[derive(Debug)]
pub struct EngineMetrics {
    short: Gauge,
    long: Gauge,
    waiting: Gauge,
    waited: Histogram,
    cut: Family<ReasonLabel, Counter>,
    /// Found and not found: of plans, pages and credentials.
    caches: [(Counter, Counter); 3],
    /// Long queries that may be worked on at once.
    pub places: Pulled,
    /// Memory that operators of queries hold.
    pub memory_bytes: Pulled,
    /// Memory that they may hold.
    pub memory_limit_bytes: Pulled,
    /// What does not fit there, on the disk.
    pub spill_bytes: Pulled,
    /// What may be there.
    pub spill_limit_bytes: Pulled,
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
            waited: Histogram::new(LATENCIES),
            cut,
            caches: [cache("plans"), cache("pages"), cache("credentials")],
            places: Pulled::default(),
            memory_bytes: Pulled::default(),
            memory_limit_bytes: Pulled::default(),
            spill_bytes: Pulled::default(),
            spill_limit_bytes: Pulled::default(),
        };
        registry.register(
            "queries_running",
            "Queries that are worked on, by where",
            running,
        );
        registry.register(
            "queries_waiting",
            "Long queries that wait for their turn",
            metrics.waiting.clone(),
        );
        registry.register(
            "query_wait_seconds",
            "How long long queries waited for a turn",
            metrics.waited.clone(),
        );
        registry.register(
            "queries_cut_short",
            "Answers that ended before they were whole, by why",
            metrics.cut.clone(),
        );
        registry.register(
            "cache_requests",
            "What was looked for in caches, and whether it was there",
            caches,
        );
        let pulled = [
            (
                "query_places",
                "Long queries that may be worked on at once (serve.queries)",
                &metrics.places,
            ),
            (
                "query_memory_bytes",
                "Memory that sorting, grouping and joining hold",
                &metrics.memory_bytes,
            ),
            (
                "query_memory_limit_bytes",
                "What they may hold (serve.total_memory)",
                &metrics.memory_limit_bytes,
            ),
            (
                "spill_bytes",
                "What queries have on the disk because it did not fit into memory",
                &metrics.spill_bytes,
            ),
            (
                "spill_limit_bytes",
                "What they may have there (serve.spill)",
                &metrics.spill_limit_bytes,
            ),
        ];
        for (name, help, value) in pulled {
            registry.register(name, help, value.clone());
        }
        metrics
    }

    /// A query is worked on, until what is returned is dropped.
    pub fn running(&self, lane: Lane) -> Running {
        Running::new(match lane {
            Lane::Short => &self.short,
            Lane::Long => &self.long,
        })
    }

    /// A query waits for its turn, until what is returned is dropped.
    pub fn waiting(&self) -> Running {
        Running::new(&self.waiting)
    }

    /// A query waited for so long.
    pub fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    /// Counts an answer that ended before it was whole.
    pub fn cut(&self, cut: Cut) {
        let reason = match cut {
            Cut::Worked => "worked",
            Cut::Waited => "waited",
            Cut::Unread => "unread",
            Cut::Lost => "lost",
        };
        self.cut.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts what was looked for in a cache, and whether it was there.
    pub fn looked_up(&self, cache: Cache, found: bool) {
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
