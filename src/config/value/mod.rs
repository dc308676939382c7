//! The value types of settings, and their parsers.

mod byte_size;
mod times;

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use url::Url;

use super::secret::Secret;

pub use byte_size::size;
pub(super) use byte_size::{file_size, journal_size, memory};
pub use times::{MAX_TOKEN_LIFETIME, TimeBound, duration, timezone};
pub(super) use times::{
    earliest, grace_period, history_time, latest, retention_time, retry_time, timeout,
    token_lifetime, window,
};

/// The maximum number of threads.
pub(super) const MAX_THREADS: usize = 1024;

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

pub(super) fn expiry_action(text: &str) -> Result<ExpiryAction, String> {
    match text.trim() {
        "archive" => Ok(ExpiryAction::Archive),
        "delete" => Ok(ExpiryAction::Delete),
        _ => Err("is not one of the accepted values".to_owned()),
    }
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
