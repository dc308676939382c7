//! The account of what is in force and where it came from, with secrets masked.

use super::error::Origin;
use super::raw::RawSettings;
use super::secret::is_secret;
use super::storage;
use super::table::SETTINGS;

/// What stands for a secret; it does not tell its length.
const MASK: &str = "******";

/// A setting in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The setting.
    pub key: String,
    /// Its value as text, masked if it is a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether the value is masked.
    pub secret: bool,
}

/// Every setting, in the table's order, then those of `storage.*` that are set.
pub(super) fn in_force(raw: &RawSettings) -> Vec<InForce> {
    let table = SETTINGS.iter().map(|about| {
        let value = raw.in_force(about);
        // That none is set is not a secret.
        let secret = is_secret(about.key) && !value.text.is_empty();
        (value, secret)
    });
    let storage = raw
        .storage()
        .map(|(name, value)| (value.clone(), storage::is_secret(name)));
    table
        .chain(storage)
        .map(|(value, secret)| InForce {
            value: shown(&value.text, secret),
            key: value.key,
            origin: value.origin,
            secret,
        })
        .collect()
}

/// `text` as it may be shown: a secret not at all, a URL without its password.
pub(super) fn shown(text: &str, secret: bool) -> String {
    if secret {
        return MASK.to_owned();
    }
    let hide = || {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let after = rest.get(authority.len()..)?;
        let authority = match authority.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => format!("{user}:{MASK}@{host}"),
                None => authority.to_owned(),
            },
            None => authority.to_owned(),
        };
        Some(format!("{scheme}://{authority}{}", without_secrets(after)))
    };
    hide().unwrap_or_else(|| text.to_owned())
}

/// A URL's path and query, with the values of parameters such as `password` masked.
fn without_secrets(after: &str) -> String {
    let Some((path, query)) = after.split_once('?') else {
        return after.to_owned();
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if storage::is_secret(&name.to_lowercase()) => {
                format!("{name}={MASK}")
            }
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{path}?{}", shown.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_masked() {
        assert_eq!(shown("s3://a/b", false), "s3://a/b");
        assert_eq!(
            shown("http://me:x:y@host:1/p?q#f", false),
            "http://me:******@host:1/p?q#f"
        );
        assert_eq!(shown("http://me@host", false), "http://me@host");
        assert_eq!(
            shown("postgres://me@host/db?a=1&Password=x&b", false),
            "postgres://me@host/db?a=1&Password=******&b"
        );
        assert_eq!(shown("", true), MASK);
    }
}
