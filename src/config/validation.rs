//! Validation: parses the text of all settings into [`Settings`], and checks the conditions between them.

use chrono::TimeDelta;
use rust_decimal::Decimal;

use super::error::{ConfigError, InvalidValue};
use super::settings::{
    AuthSettings, ConnectionSettings, LogSettings, MaintainSettings, MeteringSettings,
    MetricsSettings, MirrorSettings, QdrantSettings, ResampleSettings, Retention,
    RetentionSettings, ScheduleSettings, SearchSettings, ServeSettings, Settings, TICKET_LIFETIME,
};
use super::spec::RawSettings;
use super::storage::StorageSettings;
use super::table;
use super::value::TimeBound;
use crate::model::{Price, PriceList};

impl Settings {
    /// Parses and validates all settings. The first invalid one in this order is reported.
    pub(super) fn from_raw(raw: &RawSettings) -> Result<Self, ConfigError> {
        let settings = Self {
            lake: raw.get(&table::LAKE)?,
            raw: raw.get(&table::RAW)?,
            state: raw.get(&table::STATE)?,
            catalog: raw.get(&table::CATALOG)?,
            organisation_url: raw.get(&table::ORGANISATION_URL)?,
            mirror_url: raw.get(&table::MIRROR_URL)?,
            qdrant: qdrant_settings(raw)?,
            mirror: mirror_settings(raw)?,
            auth: auth_settings(raw)?,
            jobs: raw.get(&table::JOBS)?,
            resample: resample_settings(raw)?,
            retention: retention_settings(raw)?,
            maintain: MaintainSettings {
                target_file_size: raw.get(&table::MAINTAIN_TARGET_FILE_SIZE)?,
                grace: raw
                    .get(&table::MAINTAIN_GRACE)?
                    .max(max_query_lifetime(raw)?),
            },
            serve: serve_settings(raw)?,
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
            billing: price_list(raw)?,
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

fn qdrant_settings(raw: &RawSettings) -> Result<QdrantSettings, ConfigError> {
    Ok(QdrantSettings {
        url: raw.get(&table::QDRANT_URL)?,
        api_key: raw.get(&table::QDRANT_API_KEY)?,
        collection: raw.get(&table::QDRANT_COLLECTION)?,
        timeout: raw.get(&table::QDRANT_TIMEOUT)?,
    })
}

fn mirror_settings(raw: &RawSettings) -> Result<MirrorSettings, ConfigError> {
    Ok(MirrorSettings {
        window_min: raw.get(&table::MIRROR_WINDOW_MIN)?,
        window_h: raw.get(&table::MIRROR_WINDOW_H)?,
        window_d: raw.get(&table::MIRROR_WINDOW_D)?,
        timeout: raw.get(&table::MIRROR_TIMEOUT)?,
        retry_for: raw.get(&table::MIRROR_RETRY_FOR)?,
    })
}

fn auth_settings(raw: &RawSettings) -> Result<AuthSettings, ConfigError> {
    Ok(AuthSettings {
        keys_dir: raw.get(&table::KEYS_DIR)?,
        token_lifetime: raw.get(&table::AUTH_TOKEN_LIFETIME)?,
        issuer: raw.get(&table::AUTH_ISSUER)?,
        audience: raw.get(&table::AUTH_AUDIENCE)?,
        keys_per_organisation: raw.get(&table::AUTH_KEYS_PER_ORGANISATION)?,
        sessions_per_user: raw.get(&table::AUTH_SESSIONS_PER_USER)?,
        changes_per_day: raw.get(&table::AUTH_CHANGES_PER_DAY)?,
    })
}

fn resample_settings(raw: &RawSettings) -> Result<ResampleSettings, ConfigError> {
    Ok(ResampleSettings {
        memory: raw.get(&table::RESAMPLE_MEMORY)?,
        threads: raw.get(&table::RESAMPLE_THREADS)?,
        timezone: raw.get(&table::RESAMPLE_TIMEZONE)?,
        earliest: raw.get(&table::RESAMPLE_EARLIEST)?,
        latest: raw.get(&table::RESAMPLE_LATEST)?,
    })
}

fn retention_settings(raw: &RawSettings) -> Result<RetentionSettings, ConfigError> {
    Ok(RetentionSettings {
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
    })
}

/// Returns the maximum time between the announcement of a result and the end of its query.
fn max_query_lifetime(raw: &RawSettings) -> Result<TimeDelta, ConfigError> {
    let waits = raw.get(&table::SERVE_QUEUE_TIMEOUT)?;
    Ok(TICKET_LIFETIME + waits + raw.get(&table::SERVE_QUERY_TIMEOUT)?)
}

fn serve_settings(raw: &RawSettings) -> Result<ServeSettings, ConfigError> {
    Ok(ServeSettings {
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
    })
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

fn price_list(raw: &RawSettings) -> Result<PriceList, ConfigError> {
    Ok(PriceList {
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
    })
}

/// Converts a number of requests to thousands, the unit of prices.
fn thousands(requests: u64) -> Decimal {
    Decimal::from_i128_with_scale(requests.into(), 3)
}
