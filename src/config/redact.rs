//! Removes credentials from text: those of URLs by their syntax, anywhere in the text, and secret settings by their values.
//!
//! Every message that leaves the process passes through [`redact`]: errors, logs, findings of `doctor`, failures of jobs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use url::form_urlencoded;

/// Replaces a credential. It does not reveal the length.
pub(super) const MASK: &str = "******";
/// The minimum length of a secret that is masked anywhere in a text. Shorter ones are masked only as a part of a URL or as the
/// value of a setting.
const MIN_LITERAL_CHARS: usize = 6;
/// Common words of messages, which are not masked there. As passwords they would not be secret anyway.
const COMMON_WORDS: [&str; 4] = ["password", "plantlake", "postgres", "postgresql"];
/// Schemes of databases, where a user name without a password is not a credential.
const DATABASE_SCHEMES: [&str; 2] = ["postgres", "postgresql"];
/// Parameters of URLs whose values are not credentials. The values of all others are masked.
const PUBLIC_PARAMETERS: [&str; 16] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "region",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// The secrets in the settings that this process has read, the longest first.
static KNOWN_SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Returns `text` without the credentials of the URLs in it, and without the secrets of the settings.
///
/// ```
/// use plantlake::config::redact;
///
/// assert_eq!(redact("cannot reach s3://me:hush@bucket/lake"), "cannot reach s3://******@bucket/lake");
/// assert_eq!(redact("the table data_h"), "the table data_h");
/// ```
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = match text.contains("://") {
        true => Cow::Owned(mask_credentials(text)),
        false => Cow::Borrowed(text),
    };
    let secrets = KNOWN_SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    for secret in secrets.iter() {
        if redacted.contains(secret.as_str()) {
            redacted = Cow::Owned(redacted.replace(secret.as_str(), MASK));
        }
    }
    redacted
}

/// Returns the value of a setting as it may be shown: secrets are masked, URLs lose their credentials.
pub(super) fn mask_value(text: &str, secret: bool) -> String {
    match secret {
        true => MASK.to_owned(),
        false => redact_url(text),
    }
}

/// Masks the credentials of each URL in `text`.
fn mask_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, url)) = split_at_scheme(rest) {
        let is_end = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>')
        };
        let url_end = url.find(is_end).unwrap_or(url.len());
        let (url, after) = url.split_at(url_end);
        // A URL may contain another one.
        let scheme = url.find("://").map_or(0, |at| at + 3);
        let inner = split_at_scheme(url.get(scheme..).unwrap_or_default());
        let end = inner.map_or(url.len(), |(before, _)| scheme + before.len());
        out.push_str(before);
        out.push_str(&redact_url(url.get(..end).unwrap_or_default()));
        rest = rest.get(before.len() + end..).unwrap_or(after);
    }
    out.push_str(rest);
    out
}

/// Returns the text before the scheme of the first URL in `text`, and the rest from there.
fn split_at_scheme(text: &str) -> Option<(&str, &str)> {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let starts = text.match_indices("://").map(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        (before.trim_end_matches(is_of_scheme).len(), at)
    });
    let mut with_scheme = starts.filter(|(start, at)| start < at);
    with_scheme.next().map(|(start, _)| text.split_at(start))
}

/// Returns a URL, or a text that may be one, without its credentials.
fn redact_url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (authority, after) = split_authority(rest);
    let authority = match (scheme, authority.rsplit_once('@')) {
        (_, None) => authority.to_owned(),
        (Some(scheme), Some((user, host))) => {
            let is_database = DATABASE_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
            match user.split_once(':') {
                Some((user, _)) if is_database => format!("{user}:{MASK}@{host}"),
                None if is_database => authority.to_owned(),
                _ => format!("{MASK}@{host}"),
            }
        }
        // A path may contain an @. A user with a password comes from a URL whose scheme was forgotten.
        (None, Some((user, host))) => match user.contains(':') {
            true => format!("{MASK}@{host}"),
            false => authority.to_owned(),
        },
    };
    match scheme {
        Some(scheme) => format!("{scheme}://{authority}{}", redact_query(after)),
        None => format!("{authority}{after}"),
    }
}

/// Returns the part of a URL before the path, and the rest.
fn split_authority(rest: &str) -> (&str, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    // A password with unescaped delimiters extends beyond them, up to the last @.
    let port = authority.split_once(':').map(|(_, port)| port);
    let is_cut = !authority.contains('@')
        && !authority.starts_with('[')
        && port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()));
    match after.rfind('@').filter(|_| is_cut) {
        Some(at) => {
            let host = after.get(at..).unwrap_or_default();
            let host = host.find(['/', '?', '#']).unwrap_or(host.len());
            rest.split_at(end + at + host)
        }
        None => (authority, after),
    }
}

/// Returns the path of a URL and what follows it, with the values of its parameters masked.
fn redact_query(after: &str) -> String {
    let Some(end) = after.find(['?', '#']) else {
        return after.to_owned();
    };
    let (path, parameters) = after.split_at(end);
    let (query, fragment) = match parameters.split_once('#') {
        Some((query, _)) => (query, format!("#{MASK}")),
        None => (parameters, String::new()),
    };
    let Some(query) = query.strip_prefix('?') else {
        return format!("{path}{fragment}");
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if PUBLIC_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) => {
                parameter.to_owned()
            }
            Some((name, _)) => format!("{name}={MASK}"),
            None => MASK.to_owned(),
        })
        .collect();
    format!("{path}?{}{fragment}", shown.join("&"))
}

/// Registers the secrets in the `values` of settings, which [`redact`] masks from then on: the whole values for which the flag
/// is true, and the credentials of URLs in the others.
pub(super) fn register_secrets(values: impl Iterator<Item = (String, bool)>) {
    let (mut secrets, mut open) = (BTreeSet::new(), Vec::new());
    for (text, secret) in values {
        match secret {
            true => {
                secrets.insert(text);
            }
            false => {
                collect_credentials(&text, &mut secrets);
                open.push(redact_url(&text));
            }
        }
    }
    let is_literal = |secret: &String| {
        secret.chars().count() >= MIN_LITERAL_CHARS
            && !COMMON_WORDS.contains(&secret.as_str())
            && !open.iter().any(|text| text.contains(secret.as_str()))
    };
    let mut known = KNOWN_SECRETS
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    for secret in secrets.into_iter().filter(is_literal) {
        if !known.contains(&secret) {
            known.push(secret);
        }
    }
    known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
}

/// Adds the credentials of a URL, both as written and unescaped.
fn collect_credentials(text: &str, credentials: &mut BTreeSet<String>) {
    let Some((scheme, rest)) = text.split_once("://") else {
        return;
    };
    let (authority, after) = split_authority(rest);
    let mut add = |text: &str| {
        let escaped = format!("x={}", text.replace('+', "%2B"));
        let meant = form_urlencoded::parse(escaped.as_bytes()).next();
        credentials.extend(meant.map(|(_, value)| value.into_owned()));
        credentials.insert(text.to_owned());
    };
    if let Some((user, _)) = authority.rsplit_once('@') {
        let is_database = DATABASE_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
        match user.split_once(':') {
            Some((_, password)) => add(password),
            None if is_database => {}
            None => add(user),
        }
    }
    let query = after.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split(['&', '#']) {
        match parameter.split_once('=') {
            Some((name, _)) if PUBLIC_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) => {}
            Some((_, value)) => add(value),
            None => add(parameter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redact_of_url_masks_credentials() {
        for (text, expected) in [
            ("s3://a/b", "s3://a/b"),
            ("s3://a/b@c", "s3://a/b@c"),
            (
                "http://me:x:y@host:1/p?q#f",
                "http://******@host:1/p?******#******",
            ),
            ("http://token@host", "http://******@host"),
            ("s3://key:hush@bucket/lake", "s3://******@bucket/lake"),
            (
                "s3://bucket/lake?secret=hush&region=eu",
                "s3://bucket/lake?secret=******&region=eu",
            ),
            ("s3://bucket/lake?hush", "s3://bucket/lake?******"),
            ("s3://bucket/lake#hush", "s3://bucket/lake#******"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("postgres://me:hush@host/db", "postgres://me:******@host/db"),
            (
                "POSTGRES://me:hu%40sh@host/db",
                "POSTGRES://me:******@host/db",
            ),
            // Unescaped delimiters in the password.
            (
                "postgres://me:hu/sh@host/db",
                "postgres://me:******@host/db",
            ),
            (
                "postgres://me:hu#s?h@host:5/db",
                "postgres://me:******@host:5/db",
            ),
            (
                "postgres://me:hu@sh@host/db",
                "postgres://me:******@host/db",
            ),
            (
                "postgres://me@host/db?sslmode=require&a=1&Password=x&b",
                "postgres://me@host/db?sslmode=require&a=******&Password=******&******",
            ),
            (
                "postgres:///db?host=/run&user=me",
                "postgres:///db?host=/run&user=me",
            ),
            (
                "postgres://me:a://b@host/db",
                "postgres://me:******@host/db",
            ),
            ("http://[::1]:5/a@b", "http://[::1]:5/a@b"),
        ] {
            assert_eq!(mask_value(text, false), expected);
            assert!(!redact(text).contains("hush"), "{}", redact(text));
        }
        assert_eq!(mask_value("", true), MASK);
        // The scheme is missing.
        assert_eq!(mask_value("me:hush@host/db", false), "******@host/db");
        assert_eq!(mask_value("folder/a@b", false), "folder/a@b");
    }

    #[test]
    fn redact_of_text_masks_each_url_in_it() {
        assert_eq!(
            redact(
                "GET \"http://a:hush@b/c?k=hush\" (see https://x.example/y), then s3://u:hush@v: gone"
            ),
            "GET \"http://******@b/c?k=******\" (see https://x.example/y), then s3://******@v: gone"
        );
        assert_eq!(redact("a :// b://"), "a :// b://");
        assert_eq!(redact("://://x:hush@y"), "://://x:hush@y");
        assert_eq!(
            redact("http://proxy/s3://a:hush@b?u=http://c:hush@d"),
            "http://proxy/s3://******@b?u=******http://******@d"
        );
    }
}
