//! Metrics of the published tables, their lag behind the raw files, and the catalog.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::lazy_gauge::LazyGauge;
use super::result_label::ResultLabel;
use crate::clock;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: &'static str,
}

/// Raw files that no published run has processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingFiles {
    /// The number of new, changed and removed files.
    pub files: u64,
    /// The time since which the file that has waited longest waits; `None` if that is not known.
    pub since: Option<DateTime<Utc>>,
}

/// The lag of each table, from the last known state of the raw files.
#[derive(Debug, Clone, Default)]
struct Lags {
    state: Arc<Mutex<LagState>>,
}

#[derive(Debug, Default)]
struct LagState {
    tables: Vec<&'static str>,
    since: Option<DateTime<Utc>>,
}

/// Metrics of the lake's tables, the catalog and the mirror.
#[derive(Debug)]
pub struct TableMetrics {
    lags: Lags,
    waiting: Gauge,
    newest: Family<TableLabel, Gauge>,
    reloads: Family<ResultLabel, Counter>,
    checks: Family<ResultLabel, Counter>,
    mirrored: Arc<Mutex<Option<DateTime<Utc>>>>,
    /// The published run whose tables are current.
    pub run: LazyGauge,
}

/// Returns the seconds from `since` until now; at least 0.
fn seconds_since(since: DateTime<Utc>) -> f64 {
    (clock::now() - since)
        .max(TimeDelta::zero())
        .as_seconds_f64()
}

impl EncodeMetric for Lags {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = state.since.map_or(0.0, seconds_since);
        for &table in &state.tables {
            encoder
                .encode_family(&TableLabel { table })?
                .encode_gauge(&lag)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl TableMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            lags: Lags::default(),
            waiting: Gauge::default(),
            newest: Family::default(),
            reloads: Family::default(),
            checks: Family::default(),
            mirrored: Arc::default(),
            run: LazyGauge::default(),
        };
        let help = "How long the oldest unprocessed raw file has waited to be in the table; 0 if there is none";
        registry.register("table_lag_seconds", help, metrics.lags.clone());
        let help = "Raw files that are new, changed or removed since the published run";
        registry.register("raw_files_waiting", help, metrics.waiting.clone());
        let help = "Start of the table's newest bucket, in seconds since 1970";
        registry.register(
            "table_newest_bucket_timestamp_seconds",
            help,
            metrics.newest.clone(),
        );
        registry.register(
            "published_run",
            "The published run whose tables are current",
            metrics.run.clone(),
        );
        for result in ["ok", "refused"] {
            drop(metrics.reloads.get_or_create(&ResultLabel { result }));
        }
        registry.register(
            "catalog_reloads",
            "Changed catalogs, by whether they were accepted",
            metrics.reloads.clone(),
        );
        for result in ["ok", "failed"] {
            drop(metrics.checks.get_or_create(&ResultLabel { result }));
        }
        let help = "Checks of the raw files and the published run, by result";
        registry.register("lake_looks", help, metrics.checks.clone());
        let lag = LazyGauge::default();
        let mirrored = Arc::clone(&metrics.mirrored);
        lag.set_source(move || {
            let as_of = *mirrored.lock().unwrap_or_else(PoisonError::into_inner);
            as_of.map(seconds_since)
        });
        let help = "Age of the mirror's data: time since the last successful mirror job began";
        registry.register("mirror_lag_seconds", help, lag);
        metrics
    }

    /// Records which raw files wait to be in `tables`, and counts a successful check of the raw files.
    pub fn set_waiting_files(&self, tables: &[&'static str], waiting: WaitingFiles) {
        let mut state = self
            .lags
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.tables = tables.to_vec();
        state.since = waiting.since;
        self.waiting
            .set(i64::try_from(waiting.files).unwrap_or(i64::MAX));
        self.checks
            .get_or_create(&ResultLabel { result: "ok" })
            .inc();
    }

    /// Counts a failed check of the raw files.
    pub fn count_failed_check(&self) {
        self.checks
            .get_or_create(&ResultLabel { result: "failed" })
            .inc();
    }

    /// Records the start of the table's newest bucket, in seconds since the epoch.
    pub fn set_newest_bucket(&self, table: &'static str, timestamp: i64) {
        self.newest
            .get_or_create(&TableLabel { table })
            .set(timestamp);
    }

    /// Counts a changed catalog, by whether it was activated or rejected.
    pub fn count_catalog_change(&self, is_accepted: bool) {
        let result = if is_accepted { "ok" } else { "refused" };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Records that the mirror contains all data as of `as_of`. The scheduler calls this for mirror jobs that succeeded; a
    /// mirror with more exact knowledge may call it, too.
    pub fn set_mirrored(&self, as_of: DateTime<Utc>) {
        *self.mirrored.lock().unwrap_or_else(PoisonError::into_inner) = Some(as_of);
    }
}
