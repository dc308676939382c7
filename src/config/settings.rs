//! Validated settings with their types, which the rest of the program uses.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use url::Url;

use super::database_url::DatabaseUrl;
use super::location::Location;
use super::networks::Networks;
use super::secret::Secret;
use super::storage::StorageSettings;
use super::value::{ExpiryAction, JournalFullAction, LogFormat, TimeBound, WebhookUrl};
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

/// The server that holds the search index.
#[derive(Debug, Clone)]
pub struct QdrantSettings {
    /// The URL; `None` keeps the index on this machine.
    pub url: Option<Url>,
    /// The API key.
    pub api_key: Option<Secret>,
    /// The alias of the index, and the prefix of its collections.
    pub collection: String,
    /// The maximum time that a search waits for the server.
    pub timeout: TimeDelta,
}

/// Settings of authentication.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// The folder of the keys that sign tokens.
    pub keys_dir: PathBuf,
    /// The time after which a token expires.
    pub token_lifetime: TimeDelta,
    /// The issuer of tokens (`iss`).
    pub issuer: String,
    /// The audience of tokens (`aud`).
    pub audience: String,
    /// The maximum number of keys of an organisation.
    pub keys_per_organisation: u64,
    /// The maximum number of sessions of a user.
    pub sessions_per_user: u64,
    /// The maximum number of changes that a user makes within 24 hours.
    pub changes_per_day: u64,
}

/// Settings of resampling.
#[derive(Debug, Clone)]
pub struct ResampleSettings {
    /// The maximum memory of its buffers, in bytes.
    pub memory: u64,
    /// The number of compute threads.
    pub threads: usize,
    /// The time zone of timestamps without one.
    pub timezone: Tz,
    /// The first plausible time.
    pub earliest: TimeBound,
    /// The last plausible time.
    pub latest: TimeBound,
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

/// Settings of the maintenance of files.
#[derive(Debug, Clone)]
pub struct MaintainSettings {
    /// The size of the files that compaction writes, in bytes.
    pub target_file_size: u64,
    /// The time for which files stay that no published version references. It is at least the longest time of a query,
    /// from its ticket to its last row.
    pub grace: TimeDelta,
}

/// Settings of the mirror.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// The length of the window of minutes.
    pub window_min: TimeDelta,
    /// The length of the window of hours.
    pub window_h: TimeDelta,
    /// The length of the window of days.
    pub window_d: TimeDelta,
    /// The timeout of one statement.
    pub timeout: TimeDelta,
    /// The time for which failures are retried.
    pub retry_for: TimeDelta,
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

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whether it may listen beyond this machine without TLS.
    pub allow_plaintext: bool,
    /// The maximum number of long queries that run at the same time.
    pub queries: usize,
    /// The maximum memory of one query, in bytes.
    pub query_memory: u64,
    /// The maximum memory of all queries, in bytes.
    pub total_memory: u64,
    /// The maximum disk space of all queries, in bytes.
    pub spill: u64,
    /// The maximum time that a query runs.
    pub query_timeout: TimeDelta,
    /// The maximum time that a query waits before it runs.
    pub queue_timeout: TimeDelta,
    /// The maximum time that a result waits for its client to read on.
    pub unread_timeout: TimeDelta,
    /// The time for which responses in progress may continue when the server shuts down.
    pub shutdown_timeout: TimeDelta,
    /// The maximum size of one ingest of readings, in bytes.
    pub largest_ingest: u64,
    /// The maximum age of readings that clients send; `None` for any age.
    pub oldest_ingest: Option<TimeDelta>,
    /// Limits on connections.
    pub connections: ConnectionSettings,
}

/// Limits on connections and on their requests.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The maximum number of connections.
    pub total: usize,
    /// The maximum number of connections from one address.
    pub per_address: usize,
    /// The time limit for the TLS handshake, and again for the headers of the first request.
    pub handshake_timeout: TimeDelta,
    /// The time limit for a connection to present a valid credential.
    pub unauthenticated_timeout: TimeDelta,
    /// The time limit for a message of a request to arrive.
    pub message_timeout: TimeDelta,
    /// The maximum memory for messages that are being received, in bytes.
    pub message_memory: u64,
    /// Proxies that are trusted to report the address of a client.
    pub trusted_proxies: Networks,
    /// Whether these proxies begin each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// Settings of metering.
#[derive(Debug, Clone)]
pub struct MeteringSettings {
    /// Whether the text of statements is stored.
    pub sql: bool,
    /// The maximum size of the journal, in bytes.
    pub journal_size: u64,
    /// The behaviour when the journal is full.
    pub journal_full: JournalFullAction,
    /// Whether a response waits until its record is synchronised to the disk.
    pub journal_sync: bool,
}

/// Settings of search.
#[derive(Debug, Clone)]
pub struct SearchSettings {
    /// The folder of models.
    pub models: PathBuf,
    /// The name of the model that computes embeddings.
    pub bi_encoder: String,
    /// The name of the model that scores pairs of a query and a text.
    pub cross_encoder: String,
}

/// Settings of the scheduler.
#[derive(Debug, Clone)]
pub struct ScheduleSettings {
    /// The time for which runs stay in the history.
    pub history: TimeDelta,
    /// The URL that failures are reported to.
    pub webhook_url: Option<WebhookUrl>,
    /// The time for which running jobs may continue when their process shuts down.
    pub shutdown_timeout: TimeDelta,
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

/// Settings of logging.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The filter, in the syntax of the tracing library.
    pub filter: String,
    /// The format of lines.
    pub format: LogFormat,
    /// Whether the text of queries is logged.
    pub sql: bool,
}

/// The lifetime of a ticket: the maximum time between the announcement of a result and its retrieval.
pub const TICKET_LIFETIME: TimeDelta = TimeDelta::hours(1);
