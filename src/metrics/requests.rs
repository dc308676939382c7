//! Metrics of client calls, and of the journal that records them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::buckets::LATENCIES;
use super::lazy_gauge::LazyGauge;

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Runs a statement, to the end of its result.
    Query,
    /// Sends readings.
    Ingest,
    /// Describes or prepares a statement.
    Plan,
    /// Returns metadata: tables, types, or the capabilities of the server.
    Metadata,
    /// Signs in.
    SignIn,
    /// Any other call.
    Other,
}

impl RequestKind {
    const ALL: [Self; 6] = [
        Self::Query,
        Self::Ingest,
        Self::Plan,
        Self::Metadata,
        Self::SignIn,
        Self::Other,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Ingest => "ingest",
            Self::Plan => "plan",
            Self::Metadata => "metadata",
            Self::SignIn => "sign_in",
            Self::Other => "other",
        }
    }
}

/// A limit that an organisation exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests per second.
    Rate,
    /// Concurrent queries.
    Concurrency,
    /// A monthly amount.
    Quota,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

type Histograms = Family<KindLabel, Histogram>;

/// Metrics of client calls. All of them but `unknown` concern calls whose organisation is known.
#[derive(Debug)]
pub struct RequestMetrics {
    ended: Family<RequestLabels, Counter>,
    /// The histograms by kind, in the order of `RequestKind::ALL`; held here to avoid lookups by label.
    durations: [Histogram; 6],
    first_bytes: [Histogram; 6],
    rows_sent: Counter,
    rows_ingested: Counter,
    bytes_sent: Counter,
    bytes_scanned: Counter,
    over_limit: Family<LimitLabel, Counter>,
    unauthenticated: Counter,
    /// The number of calls in progress.
    pub open: LazyGauge,
}

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct EndedRequest {
    /// The kind of the call.
    pub kind: RequestKind,
    /// The gRPC status code, by name.
    pub status: &'static str,
    /// The duration of the call.
    pub took: Duration,
    /// The time from the start of the call to the first message of the response; none if there was no message.
    pub first_byte: Option<Duration>,
    /// The number of rows sent or ingested.
    pub rows: u64,
    /// The size of the response, in bytes.
    pub bytes_sent: u64,
    /// The bytes read from the lake's files.
    pub bytes_scanned: u64,
}

impl RequestMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let histograms = |registry: &mut Registry, name: &str, help: &str| {
            let family = Histograms::new_with_constructor(|| Histogram::new(LATENCIES));
            registry.register(name, help, family.clone());
            RequestKind::ALL
                .map(|kind| family.get_or_create_owned(&KindLabel { kind: kind.name() }))
        };
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let ended = Family::default();
        registry.register(
            "requests",
            "Calls that ended, by kind and status",
            ended.clone(),
        );
        let over_limit: Family<LimitLabel, Counter> = Family::default();
        for limit in ["rate", "concurrency", "quota"] {
            drop(over_limit.get_or_create(&LimitLabel { limit }));
        }
        let help = "Calls refused because their organisation exceeded a limit, by limit";
        registry.register("refused_requests", help, over_limit.clone());
        let open = LazyGauge::default();
        registry.register("open_requests", "Calls in progress", open.clone());
        Self {
            ended,
            durations: histograms(
                registry,
                "request_duration_seconds",
                "Time from the start of a call to its end",
            ),
            first_bytes: histograms(
                registry,
                "request_first_byte_seconds",
                "Time from the start of a call to the first message of its response",
            ),
            rows_sent: counter(registry, "rows_sent", "Rows sent in results"),
            rows_ingested: counter(registry, "rows_ingested", "Readings ingested"),
            bytes_sent: counter(registry, "sent_bytes", "Bytes sent in responses"),
            bytes_scanned: counter(
                registry,
                "scanned_bytes",
                "Bytes of the lake's files that queries read",
            ),
            over_limit,
            unauthenticated: counter(
                registry,
                "unknown_callers",
                "Calls without a valid credential",
            ),
            open,
        }
    }

    /// Counts a call that has ended.
    pub fn record_ended(&self, call: &EndedRequest) {
        let labels = RequestLabels {
            kind: call.kind.name(),
            status: call.status,
        };
        self.ended.get_or_create(&labels).inc();
        let at = RequestKind::ALL.iter().position(|kind| *kind == call.kind);
        let at = at.unwrap_or_default();
        if let Some(durations) = self.durations.get(at) {
            durations.observe(call.took.as_secs_f64());
        }
        if let (Some(first_bytes), Some(first)) = (self.first_bytes.get(at), call.first_byte) {
            first_bytes.observe(first.as_secs_f64());
        }
        match call.kind {
            RequestKind::Ingest => self.rows_ingested.inc_by(call.rows),
            _ => self.rows_sent.inc_by(call.rows),
        };
        self.bytes_sent.inc_by(call.bytes_sent);
        self.bytes_scanned.inc_by(call.bytes_scanned);
    }

    /// Counts a call that was refused because its organisation exceeded a limit.
    pub fn count_over_limit(&self, limit: Limit) {
        let limit = match limit {
            Limit::Rate => "rate",
            Limit::Concurrency => "concurrency",
            Limit::Quota => "quota",
        };
        self.over_limit.get_or_create(&LimitLabel { limit }).inc();
    }

    /// Counts a call without a valid credential.
    pub fn count_unauthenticated(&self) {
        self.unauthenticated.inc();
    }
}

/// Metrics of the journal, and of the transfer of its records into the ledger.
#[derive(Debug)]
pub struct JournalMetrics {
    /// The size of the journal's files, in bytes.
    pub bytes: LazyGauge,
    /// The maximum size of the journal's files, in bytes.
    pub limit_bytes: LazyGauge,
    /// The number of records of ended requests that are not in the ledger.
    pub records: LazyGauge,
    /// The time in seconds for which there have been records that are not in the ledger; 0 if there are none.
    pub lag_seconds: LazyGauge,
    added: Counter,
    dropped: Counter,
}

impl JournalMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            bytes: LazyGauge::default(),
            limit_bytes: LazyGauge::default(),
            records: LazyGauge::default(),
            lag_seconds: LazyGauge::default(),
            added: Counter::default(),
            dropped: Counter::default(),
        };
        let pulled = [
            (
                "journal_bytes",
                "Size of the journal of requests",
                &metrics.bytes,
            ),
            (
                "journal_limit_bytes",
                "Maximum size of the journal (metering.journal_size)",
                &metrics.limit_bytes,
            ),
            (
                "journal_records",
                "Records of ended requests that are not in the ledger yet",
                &metrics.records,
            ),
            (
                "ledger_lag_seconds",
                "How long there have been records that are not in the ledger; 0 if there are none",
                &metrics.lag_seconds,
            ),
        ];
        for (name, help, value) in pulled {
            registry.register(name, help, value.clone());
        }
        registry.register(
            "ledger_records",
            "Records that were added to the ledger",
            metrics.added.clone(),
        );
        let help =
            "Requests that were answered but not recorded (metering.journal_full = \"go-on\")";
        registry.register("unrecorded_requests", help, metrics.dropped.clone());
        metrics
    }

    /// Counts records that were added to the ledger.
    pub fn count_added(&self, records: u64) {
        self.added.inc_by(records);
    }

    /// Counts a request that was answered but not recorded, and is therefore in no invoice.
    pub fn count_dropped(&self) {
        self.dropped.inc();
    }
}
