//! The value types of settings, and their parsers.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use tracing_subscriber::EnvFilter;
use url::Url;

use super::raw;
use super::secret::Secret;
use crate::model::{MICROS_PER_DAY, day_from_date};

/// The minimum memory of resampling, in bytes.
const MIN_MEMORY_BYTES: u64 = 64 << 20;
/// The maximum number of threads.
pub(super) const MAX_THREADS: usize = 1024;
/// The maximum lifetime of an access token.
pub const MAX_TOKEN_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The behaviour while requests cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalFullAction {
    /// New requests are refused.
    Refuse,
    /// New requests are answered; the unrecorded ones are counted.
    Continue,
}

/// The treatment of expired data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryAction {
    /// Expired data is moved to the archive.
    Archive,
    /// Expired data is deleted.
    Delete,
}

/// A bound of the plausible time range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeBound {
    /// A fixed time, in microseconds since the epoch.
    At(i64),
    /// A distance from now in microseconds; negative values are in the past.
    FromNow(i64),
}

impl TimeBound {
    /// Returns the bound in microseconds since the epoch, if the current time is `now`.
    pub fn micros(self, now: DateTime<Utc>) -> i64 {
        match self {
            Self::At(instant) => instant,
            Self::FromNow(distance) => now.timestamp_micros().saturating_add(distance),
        }
    }
}

pub(super) fn check_not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(())
    }
}

pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    check_not_empty(text)?;
    if text.contains("://") {
        return Err("is a URL".to_owned());
    }
    Ok(PathBuf::from(text))
}

pub(super) fn optional_file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(text)
        .filter(|text| !text.trim().is_empty())
        .map(PathBuf::from))
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim()
        .parse()
        .map_err(|_| "is not an address with a port".to_owned())
}

pub(super) fn optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text.trim() {
        "off" => Ok(None),
        text => address(text).map(Some),
    }
}

/// The URL of a webhook. It is a secret, because anyone who knows it can write there.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error})"))?;
        match (url.scheme(), url.has_host()) {
            ("http" | "https", true) => Ok(Some(Self(url))),
            _ => Err("is not an http or https URL with a host".to_owned()),
        }
    }

    /// Returns the URL in clear text.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebhookUrl").finish_non_exhaustive()
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is not one of the accepted values".to_owned()),
    }
}

pub(super) fn memory(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    if bytes < MIN_MEMORY_BYTES {
        Err("is below the minimum".to_owned())
    } else {
        Ok(bytes)
    }
}

/// The minimum size of the journal, in bytes. A smaller one would be full after a few requests.
const MIN_JOURNAL_BYTES: u64 = 1 << 20;

pub(super) fn journal_size(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    match bytes < MIN_JOURNAL_BYTES {
        true => Err("is below the minimum".to_owned()),
        false => Ok(bytes),
    }
}

pub(super) fn file_size(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    match (1 << 20..=4 << 30).contains(&bytes) {
        true => Ok(bytes),
        false => Err("is out of range".to_owned()),
    }
}

/// Parses a number of bytes, with or without a unit (`512MiB`, `10GB`); the error describes the problem.
pub fn size(text: &str) -> Result<u64, String> {
    bytes(text)
}

/// Parses `1GiB`, `512 MiB`, `1.5GB`, `1073741824`. A bare `G` is refused, because it is ambiguous.
fn bytes(text: &str) -> Result<u64, String> {
    check_not_empty(text)?;
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| "does not begin with a number".to_owned())?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        other => return Err(format!("has the unknown unit {other:?}")),
    };
    let bytes = number * unit as f64;
    if bytes > u64::MAX as f64 / 2.0 {
        Err("is above the maximum".to_owned())
    } else {
        Ok(bytes as u64)
    }
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    let number: usize = text
        .trim()
        .parse()
        .map_err(|_| "is not a whole number above zero".to_owned())?;
    if (1..=MAX_THREADS).contains(&number) {
        Ok(number)
    } else {
        Err("is out of range".to_owned())
    }
}

/// The maximum of the connection settings.
const MAX_CONNECTIONS: usize = 1_000_000;
/// The minimum of the connection settings; fewer would not suffice for the connection pool of one client.
const MIN_CONNECTIONS: usize = 8;

pub(super) fn connections(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| (MIN_CONNECTIONS..=MAX_CONNECTIONS).contains(number))
        .ok_or_else(|| "is out of range".to_owned())
}

/// Parses a limit from 1 to 1,000,000.
pub(super) fn count_limit(text: &str) -> Result<u64, String> {
    let number: u64 = text
        .trim()
        .parse()
        .map_err(|_| "is not a whole number above zero".to_owned())?;
    match number {
        1..=1_000_000 => Ok(number),
        _ => Err("is out of range".to_owned()),
    }
}

/// Parses the IANA name of a time zone; the error describes the problem.
pub fn timezone(text: &str) -> Result<Tz, String> {
    check_not_empty(text)?;
    text.trim().parse().map_err(|_| {
        let names = TZ_VARIANTS.iter().map(|zone| zone.name().to_owned());
        match raw::nearest(text, '/', names) {
            Some(nearest) => format!("is not a known zone (the nearest is {nearest})"),
            None => "is not a known zone".to_owned(),
        }
    })
}

pub(super) fn earliest(text: &str) -> Result<TimeBound, String> {
    time_bound(text, 0)
}

pub(super) fn latest(text: &str) -> Result<TimeBound, String> {
    time_bound(text, MICROS_PER_DAY - 1)
}

/// Parses a bound of the time range. A date stands for the microsecond `within_day` of its day.
fn time_bound(text: &str, within_day: i64) -> Result<TimeBound, String> {
    check_not_empty(text)?;
    let text = text.trim();
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(TimeBound::At(
            i64::from(day_from_date(date)) * MICROS_PER_DAY + within_day,
        ));
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(TimeBound::At(instant.timestamp_micros()));
    }
    offset_micros(text)
        .map(TimeBound::FromNow)
        .ok_or_else(|| "is not a time".to_owned())
}

/// Parses `+1d` or `-12h` into microseconds.
fn offset_micros(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, text.get(1..)?),
        b'-' => (-1, text.get(1..)?),
        _ => return None,
    };
    let number = rest.strip_suffix(['d', 'h'])?;
    // `parse` would accept a second sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = number.parse().ok()?;
    let hours = if rest.ends_with('d') {
        number.checked_mul(24)?
    } else {
        number
    };
    TimeDelta::try_hours(hours)?
        .num_microseconds()?
        .checked_mul(sign)
}

/// Parses `15min`, `12h` or `7d`.
pub(super) fn token_lifetime(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::minutes(1)..=MAX_TOKEN_LIFETIME)
}

pub(super) fn timeout(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::seconds(1)..=TimeDelta::days(1))
}

/// Parses a duration like [`timeout`], but accepts zero too.
pub(super) fn retry_time(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::zero()..=TimeDelta::days(1))
}

/// Parses the length of a mirror window: `36h`, `90d`.
pub(super) fn window(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::hours(1)..=TimeDelta::days(36_500))
}

/// Parses a retention time; `None` for `forever`.
pub(super) fn retention_time(text: &str) -> Result<Option<TimeDelta>, String> {
    match text.trim() {
        "forever" => Ok(None),
        text => duration(text, TimeDelta::days(1)..=TimeDelta::days(36_500)).map(Some),
    }
}

pub(super) fn expiry_action(text: &str) -> Result<ExpiryAction, String> {
    match text.trim() {
        "archive" => Ok(ExpiryAction::Archive),
        "delete" => Ok(ExpiryAction::Delete),
        _ => Err("is not one of the accepted values".to_owned()),
    }
}

/// Parses the grace time of unreferenced files. It is at most 5 days, because the Delta log forgets after 7 days
/// which files were removed.
pub(super) fn grace_period(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::hours(1)..=TimeDelta::days(5))
}

pub(super) fn history_time(text: &str) -> Result<TimeDelta, String> {
    duration(text, TimeDelta::days(1)..=TimeDelta::days(3_650))
}

/// Parses `30s`, `15min`, `12h`, `7d`; the error describes the problem.
pub fn duration(text: &str, within: RangeInclusive<TimeDelta>) -> Result<TimeDelta, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number
        .parse()
        .map_err(|_| "does not begin with a whole number".to_owned())?;
    let duration = match unit.trim() {
        "s" => TimeDelta::try_seconds(number),
        "min" => TimeDelta::try_minutes(number),
        "h" => TimeDelta::try_hours(number),
        "d" => TimeDelta::try_days(number),
        _ => return Err("has no unit of s, min, h or d".to_owned()),
    };
    duration
        .filter(|duration| within.contains(duration))
        .ok_or_else(|| "is out of range".to_owned())
}

pub(super) fn name(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    Ok(text.trim().to_owned())
}

/// Parses the URL of a Qdrant server; returns `None` for an empty text.
pub(super) fn qdrant_url(text: &str) -> Result<Option<Url>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("has the unknown scheme {:?}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains a user or a password; set the key in `qdrant_api_key`".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err("has more than a host and a port".to_owned());
    }
    Ok(Some(url))
}

/// Parses a key; returns `None` for an empty text. The error does not contain the key.
pub(super) fn api_key(text: &str) -> Result<Option<Secret>, String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Some(text).filter(|text| !text.is_empty()).map(Secret::new)),
        false => Err("contains other characters".to_owned()),
    }
}

const MAX_COLLECTION_NAME_BYTES: usize = 64;

/// Parses the name of a collection. It has no hyphen, because a hyphen ends it in the names of collections.
pub(super) fn collection(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.chars().all(is_plain) && text.len() <= MAX_COLLECTION_NAME_BYTES {
        true => Ok(text.to_owned()),
        false => Err("is too long, or contains other characters".to_owned()),
    }
}

/// Parses the name of a model on the hub. The name becomes a path, so it must not lead out of its folder.
pub(super) fn model(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    let text = text.trim();
    let is_part = |part: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain)
    };
    match text.split_once('/') {
        Some((organisation, name)) if is_part(organisation) && is_part(name) => Ok(text.to_owned()),
        _ => Err("is not the name of a model".to_owned()),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| format!("is not a filter ({error})"))?;
    // A misspelled level would be parsed as the name of a module, and silence everything.
    let bare = !text.contains(['=', ',', '[', ':']);
    if bare
        && text
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_err()
        && text != "plantlake"
    {
        return Err("is not a level".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not a format".to_owned()),
    }
}

pub(super) fn journal_full(text: &str) -> Result<JournalFullAction, String> {
    match text.trim() {
        "refuse" => Ok(JournalFullAction::Refuse),
        "go-on" => Ok(JournalFullAction::Continue),
        _ => Err("is not one of the accepted values".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_accepts_numbers_with_and_without_units() {
        for (text, expected) in [
            ("1GiB", 1 << 30),
            ("512 MiB", 512 << 20),
            ("1.5gib", 3 << 29),
            ("2GB", 2_000_000_000),
            ("1_000", 1_000),
            ("7 B", 7),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "GiB",
            "1G",
            "1 apple",
            "-1GiB",
            "1e400",
            "99999999TiB",
            "1.2.3",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(memory("63MiB").is_err());
        assert_eq!(memory("64MiB"), Ok(64 << 20));
    }

    #[test]
    fn time_bound_of_date_is_first_or_last_instant() {
        assert_eq!(earliest("1970-01-02"), Ok(TimeBound::At(MICROS_PER_DAY)));
        assert_eq!(
            latest("1970-01-02"),
            Ok(TimeBound::At(2 * MICROS_PER_DAY - 1))
        );
        assert_eq!(latest("1970-01-01T01:00:00+01:00"), Ok(TimeBound::At(0)));
    }

    #[test]
    fn time_bound_accepts_distances_from_now() {
        assert_eq!(latest("+1d"), Ok(TimeBound::FromNow(MICROS_PER_DAY)));
        assert_eq!(
            earliest("-12h"),
            Ok(TimeBound::FromNow(-MICROS_PER_DAY / 2))
        );
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(TimeBound::FromNow(5).micros(now), 5);
        for text in [
            "1d",
            "+d",
            "+1",
            "+-1d",
            "+1m",
            "+99999999999999999d",
            "tomorrow",
        ] {
            assert!(latest(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timezone_unknown_suggests_the_nearest() {
        assert_eq!(timezone("Europe/Berlin"), Ok(Tz::Europe__Berlin));
        assert!(timezone("Europe/Berln").is_err_and(|problem| problem.contains("Europe/Berlin")));
    }

    #[test]
    fn qdrant_settings_are_validated() {
        let url = |text| qdrant_url(text).map(|url| url.map(String::from));
        assert_eq!(url(""), Ok(None));
        assert_eq!(
            url("http://localhost:6334"),
            Ok(Some("http://localhost:6334/".to_owned()))
        );
        for bad in [
            "localhost:6334",
            "grpc://localhost",
            "http://me:hush@localhost",
            "http://localhost/collections",
            "http://localhost?key=hush",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(api_key(""), Ok(None));
        assert!(api_key("a b").is_err() && api_key("grün").is_err());
        assert!(collection("plantlake_2").is_ok());
        for bad in ["", "a-b", "a/b", "ä", &"a".repeat(65)] {
            assert!(collection(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn token_lifetime_requires_unit_and_bounds() {
        assert_eq!(token_lifetime("15min"), Ok(TimeDelta::minutes(15)));
        assert_eq!(token_lifetime("30 d"), Ok(MAX_TOKEN_LIFETIME));
        for bad in ["", "12", "0min", "31d", "1.5h", "-1h", "99999999999999999d"] {
            assert!(token_lifetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_filter_refuses_misspelled_level() {
        for good in [
            "warn",
            "off",
            "plantlake=debug",
            "warn,plantlake::lake=trace",
        ] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "wran", "plantlake=loud"] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }
}
