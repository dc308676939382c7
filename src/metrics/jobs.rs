//! Metrics of scheduled jobs.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::buckets::DURATIONS;
use super::gauge_guard::GaugeGuard;
use super::result_label::ResultLabel;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabel {
    job: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    job: String,
    result: &'static str,
}

/// Metrics of scheduled jobs.
#[derive(Debug)]
pub struct JobMetrics {
    runs: Family<RunLabels, Counter>,
    rows: Family<JobLabel, Counter>,
    durations: Family<JobLabel, Histogram>,
    running: Family<JobLabel, Gauge>,
    taken_over: Family<JobLabel, Counter>,
    succeeded: Family<JobLabel, Gauge>,
    due: Family<JobLabel, Gauge>,
    webhook_calls: Family<ResultLabel, Counter>,
    /// The names of the declared jobs.
    known: Mutex<HashSet<String>>,
}

fn job_label(job: &str) -> JobLabel {
    JobLabel {
        job: job.to_owned(),
    }
}

const RESULTS: [&str; 5] = ["ok", "failed", "timed_out", "skipped", "aborted"];

impl JobMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            runs: Family::default(),
            rows: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            running: Family::default(),
            taken_over: Family::default(),
            succeeded: Family::default(),
            due: Family::default(),
            webhook_calls: Family::default(),
            known: Mutex::default(),
        };
        registry.register(
            "job_runs",
            "Runs of jobs that ended in this process, by result",
            metrics.runs.clone(),
        );
        registry.register(
            "job_rows",
            "Rows of runs that succeeded in this process",
            metrics.rows.clone(),
        );
        let help = "Duration of runs in this process, all attempts together";
        registry.register("job_duration_seconds", help, metrics.durations.clone());
        registry.register(
            "job_running",
            "Whether the job runs in this process",
            metrics.running.clone(),
        );
        let help = "Runs that this process took over after another one died";
        registry.register("job_runs_taken_over", help, metrics.taken_over.clone());
        let help = "When a run last succeeded, in any process, in seconds since 1970";
        registry.register(
            "job_last_success_timestamp_seconds",
            help,
            metrics.succeeded.clone(),
        );
        let help = "When the job is due next, in seconds since 1970";
        registry.register("job_next_due_timestamp_seconds", help, metrics.due.clone());
        for result in ["ok", "failed"] {
            drop(metrics.webhook_calls.get_or_create(&ResultLabel { result }));
        }
        registry.register(
            "webhook_calls",
            "Calls of the webhook about failed jobs, by result",
            metrics.webhook_calls.clone(),
        );
        metrics
    }

    /// Counts a running job until the returned guard is dropped.
    pub fn track_running(&self, job: &str) -> GaugeGuard {
        GaugeGuard::new(&self.running.get_or_create_owned(&job_label(job)))
    }

    /// Counts a run that ended, with its duration and its rows.
    pub fn record_run(&self, job: &str, result: &'static str, took: Duration, rows: Option<u64>) {
        let labels = RunLabels {
            job: job.to_owned(),
            result,
        };
        self.runs.get_or_create(&labels).inc();
        self.durations
            .get_or_create(&job_label(job))
            .observe(took.as_secs_f64());
        self.rows
            .get_or_create(&job_label(job))
            .inc_by(rows.unwrap_or_default());
    }

    /// Counts a due time that was skipped.
    pub fn count_skipped(&self, job: &str) {
        let labels = RunLabels {
            job: job.to_owned(),
            result: "skipped",
        };
        self.runs.get_or_create(&labels).inc();
    }

    /// Counts a run that this process took over from another one.
    pub fn count_taken_over(&self, job: &str) {
        self.taken_over.get_or_create(&job_label(job)).inc();
    }

    /// Records when the job last succeeded, in seconds since the epoch.
    pub fn set_last_success(&self, job: &str, timestamp: i64) {
        self.succeeded.get_or_create(&job_label(job)).set(timestamp);
    }

    /// Records when the job is due next, in seconds since the epoch.
    pub fn set_next_due(&self, job: &str, timestamp: i64) {
        self.due.get_or_create(&job_label(job)).set(timestamp);
    }

    /// Counts a call of the webhook, by whether it succeeded.
    pub fn count_webhook_call(&self, is_ok: bool) {
        let result = if is_ok { "ok" } else { "failed" };
        self.webhook_calls
            .get_or_create(&ResultLabel { result })
            .inc();
    }

    /// Sets the names of the declared jobs. The counters of a new job start at 0, so that their first increase is visible.
    /// The gauges of a job that is no longer declared are removed.
    pub fn set_declared_jobs<'a>(&self, jobs: impl Iterator<Item = &'a str>) {
        let now: HashSet<String> = jobs.map(str::to_owned).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return;
        }
        for gone in known.difference(&now) {
            self.due.remove(&job_label(gone));
            self.succeeded.remove(&job_label(gone));
            self.running.remove(&job_label(gone));
        }
        for new in now.difference(&known) {
            for result in RESULTS {
                let job = new.clone();
                drop(self.runs.get_or_create(&RunLabels { job, result }));
            }
            drop(self.rows.get_or_create(&job_label(new)));
            drop(self.durations.get_or_create(&job_label(new)));
            drop(self.running.get_or_create(&job_label(new)));
            drop(self.taken_over.get_or_create(&job_label(new)));
        }
        *known = now;
    }
}
