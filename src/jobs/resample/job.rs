//! The resample job with its inputs and options, and the settings that determine its results.

use std::sync::Arc;

use crate::clock;
use crate::config::Settings;
use crate::jobs::spec::ResampleSpec;
use crate::lake::Store;
use crate::lake::raw::{ColumnNames, RawFormat};
use crate::model::{Day, Window};
use crate::rollup_schema::RollupSchema;

/// The upper bound of plausible times in microseconds, 6000-01-01. Minute numbers of 32 bits reach to the year 6053.
pub(in crate::jobs) const MAX_TIME_MICROS: i64 = 127_174_492_800_000_000;

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether to compute everything again.
    pub full: bool,
    /// The only dates to compute, if given; other dates stay due.
    pub dates: Option<(Day, Day)>,
    /// Whether to report only, without changing anything.
    pub dry_run: bool,
}

/// Receives the progress of a run.
pub trait Progress: Send + Sync {
    /// Announces the approximate number of readings that will be read.
    fn expect(&self, readings: u64);
    /// Reports the number of readings that were read since the last call.
    fn read(&self, readings: u64);
}

/// The resample job with its inputs.
pub struct Job {
    /// The lake.
    pub lake: Store,
    /// The raw files.
    pub raw: Store,
    /// The settings.
    pub settings: Settings,
    /// The operator's specification of the job.
    pub spec: ResampleSpec,
    /// The columns of the tables.
    pub schema: RollupSchema,
    /// The receiver of progress.
    pub progress: Arc<dyn Progress>,
}

impl Job {
    /// Returns the window of plausible times at the moment.
    pub(in crate::jobs) fn plausible(&self) -> Window {
        let plausible = self.settings.resample.plausible_times(clock::now());
        Window {
            start: *plausible.start(),
            end: plausible.end().saturating_add(1).min(MAX_TIME_MICROS),
        }
    }

    /// Returns the format of the raw files, of which times outside `plausible` are left out.
    pub(in crate::jobs) fn format(&self, plausible: Window) -> RawFormat {
        let columns = &self.spec.columns;
        RawFormat {
            columns: ColumnNames {
                id: columns.id.clone(),
                timestamp: columns.timestamp.clone(),
                value: columns.value.clone(),
            },
            timezone: self.settings.resample.timezone,
            plausible,
            marks_ambiguous: true,
        }
    }

    /// Returns the settings that determine the results. The plausible range is included as it is configured: `+1d`
    /// moves with the clock, and dates that become plausible later stay due until then (see `plan`).
    pub(in crate::jobs) fn fingerprint(&self) -> String {
        let resample = &self.settings.resample;
        let columns = &self.spec.columns;
        // Earlier versions took a local time that occurs twice for the earlier instant.
        let repeated = match resample.timezone.name() {
            "UTC" => "",
            _ => " repeated=inferred",
        };
        format!(
            "zone={}{repeated} earliest={:?} latest={:?} columns={:?}/{:?}/{:?} raw={}",
            resample.timezone,
            resample.earliest,
            resample.latest,
            columns.id,
            columns.timestamp,
            columns.value,
            self.raw
        )
    }
}
