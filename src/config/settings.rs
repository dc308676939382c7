//! Validated settings with their types, which the rest of the program uses.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use url::Url;

use super::database_url::DatabaseUrl;
use super::error::{ConfigError, InvalidValue};
use super::location::Location;
use super::networks::Networks;
use super::raw::RawSettings;
use super::secret::Secret;
use super::storage::StorageSettings;
use super::table;
use super::value::{ExpiryAction, JournalFullAction, LogFormat, TimeBound, WebhookUrl};
use crate::model::{Price, PriceList, Resolution};

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

/// The maximum time between the announcement of a result and the end of its query.
fn max_query_lifetime(raw: &RawSettings) -> Result<TimeDelta, ConfigError> {
    let waits = raw.get(&table::SERVE_QUEUE_TIMEOUT)?;
    Ok(TICKET_LIFETIME + waits + raw.get(&table::SERVE_QUERY_TIMEOUT)?)
}

fn connection_settings(raw: &RawSettings) -> Result<ConnectionSettings, ConfigError> {
    Ok(ConnectionSettings {
        total: raw.get(&table::SERVE_CONNECTIONS)?,
        per_address: raw.get(&table::SERVE_CONNECTIONS_PER_ADDRESS)?,
        handshake_timeout: raw.get(&table::SERVE_HANDSHAKE_TIMEOUT)?,
        unauthenticated_timeout: raw.get(&table::SERVE_UNAUTHENTICATED_TIMEOUT)?,
        message_timeout: raw.get(&table::SERVE_MESSAGE_TIMEOUT)?,
        message_memory: raw.get(&table::SERVE_MESSAGE_MEMORY)?,
        trusted_proxies: raw.get(&table::SERVE_TRUSTED_PROXIES)?,
        proxy_protocol: raw.get(&table::SERVE_PROXY_PROTOCOL)?,
    })
}

/// Converts a number of requests to thousands, the unit of prices.
fn thousands(requests: u64) -> Decimal {
    Decimal::from_i128_with_scale(requests.into(), 3)
}

impl Settings {
    /// Parses and validates all settings.
    pub(super) fn from_raw(raw: &RawSettings) -> Result<Self, ConfigError> {
        let settings = Self {
            lake: raw.get(&table::LAKE)?,
            raw: raw.get(&table::RAW)?,
            state: raw.get(&table::STATE)?,
            catalog: raw.get(&table::CATALOG)?,
            organisation_url: raw.get(&table::ORGANISATION_URL)?,
            mirror_url: raw.get(&table::MIRROR_URL)?,
            qdrant: QdrantSettings {
                url: raw.get(&table::QDRANT_URL)?,
                api_key: raw.get(&table::QDRANT_API_KEY)?,
                collection: raw.get(&table::QDRANT_COLLECTION)?,
                timeout: raw.get(&table::QDRANT_TIMEOUT)?,
            },
            mirror: MirrorSettings {
                window_min: raw.get(&table::MIRROR_WINDOW_MIN)?,
                window_h: raw.get(&table::MIRROR_WINDOW_H)?,
                window_d: raw.get(&table::MIRROR_WINDOW_D)?,
                timeout: raw.get(&table::MIRROR_TIMEOUT)?,
                retry_for: raw.get(&table::MIRROR_RETRY_FOR)?,
            },
            auth: AuthSettings {
                keys_dir: raw.get(&table::KEYS_DIR)?,
                token_lifetime: raw.get(&table::AUTH_TOKEN_LIFETIME)?,
                issuer: raw.get(&table::AUTH_ISSUER)?,
                audience: raw.get(&table::AUTH_AUDIENCE)?,
                keys_per_organisation: raw.get(&table::AUTH_KEYS_PER_ORGANISATION)?,
                sessions_per_user: raw.get(&table::AUTH_SESSIONS_PER_USER)?,
                changes_per_day: raw.get(&table::AUTH_CHANGES_PER_DAY)?,
            },
            jobs: raw.get(&table::JOBS)?,
            resample: ResampleSettings {
                memory: raw.get(&table::RESAMPLE_MEMORY)?,
                threads: raw.get(&table::RESAMPLE_THREADS)?,
                timezone: raw.get(&table::RESAMPLE_TIMEZONE)?,
                earliest: raw.get(&table::RESAMPLE_EARLIEST)?,
                latest: raw.get(&table::RESAMPLE_LATEST)?,
            },
            retention: RetentionSettings {
                raw: Retention {
                    period: raw.get(&table::RETENTION_RAW_KEEP)?,
                    action: raw.get(&table::RETENTION_RAW_THEN)?,
                },
                minute: Retention {
                    period: raw.get(&table::RETENTION_MINUTE_KEEP)?,
                    action: raw.get(&table::RETENTION_MINUTE_THEN)?,
                },
                hour: Retention {
                    period: raw.get(&table::RETENTION_HOUR_KEEP)?,
                    action: raw.get(&table::RETENTION_HOUR_THEN)?,
                },
                day: Retention {
                    period: raw.get(&table::RETENTION_DAY_KEEP)?,
                    action: raw.get(&table::RETENTION_DAY_THEN)?,
                },
            },
            maintain: MaintainSettings {
                target_file_size: raw.get(&table::MAINTAIN_TARGET_FILE_SIZE)?,
                grace: raw
                    .get(&table::MAINTAIN_GRACE)?
                    .max(max_query_lifetime(raw)?),
            },
            serve: ServeSettings {
                listen: raw.get(&table::SERVE_LISTEN)?,
                tls_cert: raw.get(&table::SERVE_TLS_CERT)?,
                tls_key: raw.get(&table::SERVE_TLS_KEY)?,
                allow_plaintext: raw.get(&table::SERVE_ALLOW_PLAINTEXT)?,
                queries: raw.get(&table::SERVE_QUERIES)?,
                query_memory: raw.get(&table::SERVE_QUERY_MEMORY)?,
                total_memory: raw.get(&table::SERVE_TOTAL_MEMORY)?,
                spill: raw.get(&table::SERVE_SPILL)?,
                query_timeout: raw.get(&table::SERVE_QUERY_TIMEOUT)?,
                queue_timeout: raw.get(&table::SERVE_QUEUE_TIMEOUT)?,
                unread_timeout: raw.get(&table::SERVE_UNREAD_TIMEOUT)?,
                shutdown_timeout: raw.get(&table::SERVE_SHUTDOWN_TIMEOUT)?,
                largest_ingest: raw.get(&table::SERVE_LARGEST_INGEST)?,
                oldest_ingest: raw.get(&table::SERVE_OLDEST_INGEST)?,
                connections: connection_settings(raw)?,
            },
            metering: MeteringSettings {
                sql: raw.get(&table::METERING_SQL)?,
                journal_size: raw.get(&table::METERING_JOURNAL_SIZE)?,
                journal_full: raw.get(&table::METERING_JOURNAL_FULL)?,
                journal_sync: raw.get(&table::METERING_JOURNAL_SYNC)?,
            },
            search: SearchSettings {
                models: raw.get(&table::SEARCH_MODELS)?,
                bi_encoder: raw.get(&table::SEARCH_BI_ENCODER)?,
                cross_encoder: raw.get(&table::SEARCH_CROSS_ENCODER)?,
            },
            schedule: ScheduleSettings {
                history: raw.get(&table::SCHEDULE_HISTORY)?,
                webhook_url: raw.get(&table::SCHEDULE_WEBHOOK_URL)?,
                shutdown_timeout: raw.get(&table::SCHEDULE_SHUTDOWN_TIMEOUT)?,
            },
            metrics: MetricsSettings {
                listen: raw.get(&table::METRICS_LISTEN)?,
                is_explicit: raw.origin(table::METRICS_LISTEN.spec.key).is_some(),
                allow_remote: raw.get(&table::METRICS_ALLOW_REMOTE)?,
            },
            billing: PriceList {
                currency: raw.get(&table::BILLING_CURRENCY)?,
                requests: Price {
                    price: raw.get(&table::BILLING_PER_1000_REQUESTS)?,
                    free: thousands(raw.get(&table::BILLING_FREE_REQUESTS)?),
                },
                sent: Price {
                    price: raw.get(&table::BILLING_PER_GB_SENT)?,
                    free: raw.get(&table::BILLING_FREE_GB_SENT)?,
                },
                scanned: Price {
                    price: raw.get(&table::BILLING_PER_GB_SCANNED)?,
                    free: raw.get(&table::BILLING_FREE_GB_SCANNED)?,
                },
            },
            storage: StorageSettings::new(
                raw.storage()
                    .map(|(name, value)| (name.to_owned(), value.text.clone()))
                    .collect(),
            ),
            log: LogSettings {
                filter: raw.get(&table::LOG)?,
                format: raw.get(&table::LOG_FORMAT)?,
                sql: raw.get(&table::LOG_SQL)?,
            },
        };
        settings.check_consistency(raw)?;
        Ok(settings)
    }

    /// Checks the conditions between settings.
    fn check_consistency(&self, raw: &RawSettings) -> Result<(), ConfigError> {
        let backwards = match (self.resample.earliest, self.resample.latest) {
            (TimeBound::At(earliest), TimeBound::At(latest))
            | (TimeBound::FromNow(earliest), TimeBound::FromNow(latest)) => earliest > latest,
            // The order depends on the current date. If the range is empty, all readings are left out and counted.
            _ => false,
        };
        if !backwards {
            return Ok(());
        }
        let latest = raw.effective_value(&table::RESAMPLE_LATEST.spec);
        let earliest = raw.effective_value(&table::RESAMPLE_EARLIEST.spec);
        Err(InvalidValue {
            origin: latest.origin,
            key: latest.key,
            found: format!("{:?}", latest.text),
            problem: format!(
                "is before `{}`, {:?} ({})",
                earliest.key, earliest.text, earliest.origin
            ),
            expected: "a time after `resample.earliest`",
        }
        .into())
    }
}
