//! Validation: parses the text of all settings into [`Settings`], and checks the conditions between them.

use chrono::TimeDelta;
use rust_decimal::Decimal;

use super::error::{ConfigError, InvalidValue};
use super::settings::{MetricsSettings, Retention, RetentionSettings, Settings, TICKET_LIFETIME};
use super::spec as table;
use super::spec::setting::RawSettings;
use super::spec::{
    AuthSettings, LogSettings, MaintainSettings, MeteringSettings, MirrorSettings, QdrantSettings,
    ResampleSettings, ScheduleSettings, SearchSettings, ServeSettings,
};
use super::values::TimeBound;
use super::values::storage::StorageSettings;
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
            qdrant: QdrantSettings::from_raw(raw)?,
            mirror: MirrorSettings::from_raw(raw)?,
            auth: AuthSettings::from_raw(raw)?,
            jobs: raw.get(&table::JOBS)?,
            resample: ResampleSettings::from_raw(raw)?,
            retention: retention_settings(raw)?,
            maintain: maintain_settings(raw)?,
            serve: ServeSettings::from_raw(raw)?,
            metering: MeteringSettings::from_raw(raw)?,
            search: SearchSettings::from_raw(raw)?,
            schedule: ScheduleSettings::from_raw(raw)?,
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
            log: LogSettings::from_raw(raw)?,
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

fn maintain_settings(raw: &RawSettings) -> Result<MaintainSettings, ConfigError> {
    let mut maintain = MaintainSettings::from_raw(raw)?;
    maintain.grace = maintain.grace.max(max_query_lifetime(raw)?);
    Ok(maintain)
}

/// Returns the maximum time between the announcement of a result and the end of its query.
fn max_query_lifetime(raw: &RawSettings) -> Result<TimeDelta, ConfigError> {
    let waits = raw.get(&table::SERVE_QUEUE_TIMEOUT)?;
    Ok(TICKET_LIFETIME + waits + raw.get(&table::SERVE_QUERY_TIMEOUT)?)
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
