//! Validated settings with their types, which the rest of the program uses.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::spec::{
    AuthSettings, LogSettings, MaintainSettings, MeteringSettings, MirrorSettings, QdrantSettings,
    ResampleSettings, ScheduleSettings, SearchSettings, ServeSettings,
};
use super::values::ExpiryAction;
use super::values::database_url::DatabaseUrl;
use super::values::location::Location;
use super::values::storage::StorageSettings;
use crate::model::{PriceList, Resolution};

/// All settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lake's root, a path or a URL.
    pub lake: Location,
    /// The location of the raw files, a path or a URL.
    pub raw: Location,
    /// The folder of data that belongs to this machine: embedded databases, keys, journal.
    pub state: PathBuf,
    /// The folder of the catalog.
    pub catalog: PathBuf,
    /// The database of organisations, users and keys.
    pub organisation_url: DatabaseUrl,
    /// The database that recent averages are mirrored to.
    pub mirror_url: Option<DatabaseUrl>,
    /// The server that holds the search index.
    pub qdrant: QdrantSettings,
    /// The mirror.
    pub mirror: MirrorSettings,
    /// Authentication.
    pub auth: AuthSettings,
    /// The folder of job specs.
    pub jobs: PathBuf,
    /// Resampling.
    pub resample: ResampleSettings,
    /// Retention times.
    pub retention: RetentionSettings,
    /// Maintenance of files.
    pub maintain: MaintainSettings,
    /// The server.
    pub serve: ServeSettings,
    /// Metering of requests.
    pub metering: MeteringSettings,
    /// Search.
    pub search: SearchSettings,
    /// Scheduling of jobs.
    pub schedule: ScheduleSettings,
    /// Metrics.
    pub metrics: MetricsSettings,
    /// The prices of usage.
    pub billing: PriceList,
    /// Options of the object store.
    pub storage: StorageSettings,
    /// Logging.
    pub log: LogSettings,
}

impl ResampleSettings {
    /// Returns the plausible times in microseconds since the epoch, both ends included, if the current time is `now`.
    pub fn plausible_times(&self, now: DateTime<Utc>) -> RangeInclusive<i64> {
        self.earliest.micros(now)..=self.latest.micros(now)
    }
}

/// The retention times.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// Retention of raw files.
    pub raw: Retention,
    /// Retention of minutes.
    pub minute: Retention,
    /// Retention of hours.
    pub hour: Retention,
    /// Retention of days.
    pub day: Retention,
}

/// The retention time of some data, and the action after it.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// The retention time; `None` keeps the data for ever.
    pub period: Option<TimeDelta>,
    /// The action on expired data.
    pub action: ExpiryAction,
}

impl RetentionSettings {
    /// Returns the retention time of a table.
    pub const fn for_resolution(&self, resolution: Resolution) -> Retention {
        match resolution {
            Resolution::Minute => self.minute,
            Resolution::Hour => self.hour,
            Resolution::Day => self.day,
        }
    }
}

impl MirrorSettings {
    /// Returns the length of a table's window.
    pub const fn window(&self, resolution: Resolution) -> TimeDelta {
        match resolution {
            Resolution::Minute => self.window_min,
            Resolution::Hour => self.window_h,
            Resolution::Day => self.window_d,
        }
    }
}

/// Settings of metrics.
#[derive(Debug, Clone)]
pub struct MetricsSettings {
    /// The address; `None` for no metrics.
    pub listen: Option<SocketAddr>,
    /// Whether the address was set, rather than the default.
    pub is_explicit: bool,
    /// Whether other machines may connect.
    pub allow_remote: bool,
}

/// The lifetime of a ticket: the maximum time between the announcement of a result and its retrieval.
pub const TICKET_LIFETIME: TimeDelta = TimeDelta::hours(1);
