//! The account of what is in force and where it came from, with secrets masked.

use super::error::Origin;
use super::raw::RawSettings;
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
    let table = SETTINGS.iter().map(|about| (raw.in_force(about), false));
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
        let (user, host) = authority.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        let path = rest.get(authority.len()..)?;
        Some(format!("{scheme}://{user}:{MASK}@{host}{path}"))
    };
    hide().unwrap_or_else(|| text.to_owned())
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
        assert_eq!(shown("", true), MASK);
    }
}
