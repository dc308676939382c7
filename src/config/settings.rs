//! Trusted settings: typed, validated, and read by everything else.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use url::Url;

use super::database_url::DatabaseUrl;
use super::error::{ConfigError, WrongValue};
use super::location::Location;
use super::networks::Networks;
use super::raw::RawSettings;
use super::secret::Secret;
use super::storage::StorageSettings;
use super::table;
use super::value::{JournalFull, LogFormat, Then, TimeBound, WebhookUrl};
use crate::model::{Price, PriceList, Resolution};

/// All settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lake's root, a path or a URL.
    pub lake: Location,
    /// Where the raw files are, a path or a URL.
    pub raw: Location,
    /// The folder of what belongs to this machine.
    pub state: PathBuf,
    /// The catalog's folder.
    pub catalog: PathBuf,
    /// The database of organisations, users and keys.
    pub organisation_url: DatabaseUrl,
    /// The database that recent averages are mirrored to.
    pub mirror_url: Option<DatabaseUrl>,
    /// The server that keeps the search index.
    pub qdrant: QdrantSettings,
    /// How that is done.
    pub mirror: MirrorSettings,
    /// How people and programs prove who they are.
    pub auth: AuthSettings,
    /// The folder of job specs.
    pub jobs: PathBuf,
    /// How resampling works.
    pub resample: ResampleSettings,
    /// How long what is kept.
    pub retention: RetentionSettings,
    /// How files are kept in order.
    pub maintain: MaintainSettings,
    /// How the server listens.
    pub serve: ServeSettings,
    /// How requests are metered.
    pub metering: MeteringSettings,
    /// What search needs.
    pub search: SearchSettings,
    /// How jobs are run by themselves.
    pub schedule: ScheduleSettings,
    /// Where metrics are.
    pub metrics: MetricsSettings,
    /// What usage costs.
    pub billing: PriceList,
    /// For the object store.
    pub storage: StorageSettings,
    /// What is logged and how.
    pub log: LogSettings,
}

/// The server that keeps the search index.
#[derive(Debug, Clone)]
pub struct QdrantSettings {
    /// Where it is; none: the index is kept on this machine.
    pub url: Option<Url>,
    /// Lets this process in.
    pub api_key: Option<Secret>,
    /// What the index is called there.
    pub collection: String,
    /// How long an answer may take.
    pub timeout: TimeDelta,
}

/// How people and programs prove who they are.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// The folder of the keys that tokens are signed with.
    pub keys_dir: PathBuf,
    /// How long a token is good for.
    pub token_lifetime: TimeDelta,
    /// Who issues tokens.
    pub issuer: String,
    /// Whom tokens are for.
    pub audience: String,
    /// The maximum number of keys of an organisation.
    pub keys_per_organisation: u64,
    /// The maximum number of sessions of a user.
    pub sessions_per_user: u64,
    /// The maximum number of changes that a user makes within a day.
    pub changes_per_day: u64,
}

/// How resampling works.
#[derive(Debug, Clone)]
pub struct ResampleSettings {
    /// The most memory for its buffers, in bytes.
    pub memory: u64,
    /// How many threads it computes on.
    pub threads: usize,
    /// The zone of timestamps without one.
    pub timezone: Tz,
    /// The first plausible time.
    pub earliest: TimeBound,
    /// The last plausible time.
    pub latest: TimeBound,
}

impl ResampleSettings {
    /// The plausible times in microseconds since the epoch, both ends included, when it is `now`.
    pub fn plausible(&self, now: DateTime<Utc>) -> RangeInclusive<i64> {
        self.earliest.micros(now)..=self.latest.micros(now)
    }
}

/// How long what is kept.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// Raw files.
    pub raw: Retention,
    /// Minutes.
    pub minute: Retention,
    /// Hours.
    pub hour: Retention,
    /// Days.
    pub day: Retention,
}

/// How long something is kept, and what becomes of it then.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// None: for ever.
    pub keep: Option<TimeDelta>,
    /// What is done with it then.
    pub then: Then,
}

impl RetentionSettings {
    /// How long the rows of a table are kept.
    pub const fn of(&self, resolution: Resolution) -> Retention {
        match resolution {
            Resolution::Minute => self.minute,
            Resolution::Hour => self.hour,
            Resolution::Day => self.day,
        }
    }
}

/// How files are kept in order.
#[derive(Debug, Clone)]
pub struct MaintainSettings {
    /// How large files become that are made of small ones, in bytes.
    pub target_file_size: u64,
    /// How long files stay that are in no published version any more; never less than an answer may take.
    pub grace: TimeDelta,
}

/// How recent averages are mirrored.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// How far back the minutes go.
    pub window_min: TimeDelta,
    /// How far back the hours go.
    pub window_h: TimeDelta,
    /// How far back the days go.
    pub window_d: TimeDelta,
    /// How long one statement may take.
    pub timeout: TimeDelta,
    /// How long failures are met with another attempt.
    pub retry_for: TimeDelta,
}

impl MirrorSettings {
    /// How far back a table goes.
    pub const fn window(&self, resolution: Resolution) -> TimeDelta {
        match resolution {
            Resolution::Minute => self.window_min,
            Resolution::Hour => self.window_h,
            Resolution::Day => self.window_d,
        }
    }
}

/// How the server listens.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// Where.
    pub listen: SocketAddr,
    /// The certificate, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whether it may listen beyond this machine without TLS.
    pub allow_plaintext: bool,
    /// Long queries at once.
    pub queries: usize,
    /// The most memory of one query, in bytes.
    pub query_memory: u64,
    /// The most memory of all queries, in bytes.
    pub total_memory: u64,
    /// The most disk of all queries, in bytes.
    pub spill: u64,
    /// How long a query may be worked on.
    pub query_timeout: TimeDelta,
    /// How long one may wait until it is.
    pub queue_timeout: TimeDelta,
    /// How long an answer may lie there unread.
    pub unread_timeout: TimeDelta,
    /// How long answers that have begun may go on when the server is to end.
    pub shutdown_timeout: TimeDelta,
    /// The most bytes of readings that are taken at once.
    pub largest_ingest: u64,
    /// How old readings may be that are sent; none for any age.
    pub oldest_ingest: Option<TimeDelta>,
    /// What connections may take.
    pub connections: ConnectionSettings,
}

/// Limits on connections and on the requests that come by them.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The maximum number of connections.
    pub total: usize,
    /// The maximum number of connections from one address.
    pub per_address: usize,
    /// How long a client may take for the TLS handshake, and again for the headers of its first request.
    pub handshake_timeout: TimeDelta,
    /// How long a connection may go without a valid credential.
    pub unauthenticated_timeout: TimeDelta,
    /// How long one message of a request may take to arrive.
    pub message_timeout: TimeDelta,
    /// The maximum memory for messages that have begun to arrive, in bytes.
    pub message_memory: u64,
    /// Proxies whose word for a client's address is taken.
    pub trusted_proxies: Networks,
    /// Whether these proxies begin each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// How requests are metered.
#[derive(Debug, Clone)]
pub struct MeteringSettings {
    /// Whether the text of statements is kept.
    pub sql: bool,
    /// The most bytes of the journal.
    pub journal_size: u64,
    /// What is done when it has them.
    pub journal_full: JournalFull,
    /// Whether an answer waits until its record would survive a power cut.
    pub journal_sync: bool,
}

/// What search needs.
#[derive(Debug, Clone)]
pub struct SearchSettings {
    /// The folder of models.
    pub models: PathBuf,
    /// The name of the model that tells what a text means.
    pub bi_encoder: String,
    /// The name of the model that reads a query and a text together.
    pub cross_encoder: String,
}

/// How jobs are run by themselves.
#[derive(Debug, Clone)]
pub struct ScheduleSettings {
    /// How long runs stay in the history.
    pub history: TimeDelta,
    /// Where failures are told.
    pub webhook_url: Option<WebhookUrl>,
    /// How long jobs may go on when their process is to end.
    pub shutdown_timeout: TimeDelta,
}

/// Where metrics are.
#[derive(Debug, Clone)]
pub struct MetricsSettings {
    /// The address; none for no metrics.
    pub listen: Option<SocketAddr>,
    /// Whether somebody set it.
    pub is_chosen: bool,
    /// Whether it may be reached from other machines.
    pub allow_remote: bool,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A filter that the tracing library takes.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
    /// Whether the text of queries is logged.
    pub sql: bool,
}

/// How long a ticket is good for: the time between being told of an answer and fetching it.
pub const TICKET_LIFE: TimeDelta = TimeDelta::hours(1);

/// How long after it was announced an answer may still be worked on.
fn longest_answer(raw: &RawSettings) -> Result<TimeDelta, ConfigError> {
    let waits = raw.get(&table::SERVE_QUEUE_TIMEOUT)?;
    Ok(TICKET_LIFE + waits + raw.get(&table::SERVE_QUERY_TIMEOUT)?)
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

/// So many requests in thousands, which are what is priced.
fn thousands(requests: u64) -> Decimal {
    Decimal::from_i128_with_scale(requests.into(), 3)
}

impl Settings {
    /// The one validation.
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
                    keep: raw.get(&table::RETENTION_RAW_KEEP)?,
                    then: raw.get(&table::RETENTION_RAW_THEN)?,
                },
                minute: Retention {
                    keep: raw.get(&table::RETENTION_MINUTE_KEEP)?,
                    then: raw.get(&table::RETENTION_MINUTE_THEN)?,
                },
                hour: Retention {
                    keep: raw.get(&table::RETENTION_HOUR_KEEP)?,
                    then: raw.get(&table::RETENTION_HOUR_THEN)?,
                },
                day: Retention {
                    keep: raw.get(&table::RETENTION_DAY_KEEP)?,
                    then: raw.get(&table::RETENTION_DAY_THEN)?,
                },
            },
            maintain: MaintainSettings {
                target_file_size: raw.get(&table::MAINTAIN_TARGET_FILE_SIZE)?,
                grace: raw.get(&table::MAINTAIN_GRACE)?.max(longest_answer(raw)?),
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
                is_chosen: raw.origin(table::METRICS_LISTEN.about.key).is_some(),
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
        settings.check_together(raw)?;
        Ok(settings)
    }

    /// What can only be wrong between settings.
    fn check_together(&self, raw: &RawSettings) -> Result<(), ConfigError> {
        let backwards = match (self.resample.earliest, self.resample.latest) {
            (TimeBound::At(earliest), TimeBound::At(latest))
            | (TimeBound::FromNow(earliest), TimeBound::FromNow(latest)) => earliest > latest,
            // Depends on the day: an empty range then leaves out, and counts, everything.
            _ => false,
        };
        if !backwards {
            return Ok(());
        }
        let latest = raw.in_force(&table::RESAMPLE_LATEST.about);
        let earliest = raw.in_force(&table::RESAMPLE_EARLIEST.about);
        Err(WrongValue {
            origin: latest.origin,
            key: latest.key,
            found: format!("{:?}", latest.text),
            problem: format!(
                "is before `{}`, {:?} ({})",
                earliest.key, earliest.text, earliest.origin
            ),
            expected: "a time after it",
        }
        .into())
    }
}
