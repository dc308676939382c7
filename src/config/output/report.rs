//! The settings in force with their origins, with secrets masked.

use crate::config::error::Origin;
use crate::config::redact::mask_value;
use crate::config::spec::SETTINGS;
use crate::config::spec::setting::RawSettings;
use crate::config::values::secret::is_secret;
use crate::config::values::storage;

/// A setting in force.
#[derive(Debug, Clone)]
pub struct EffectiveSetting {
    /// The setting.
    pub key: String,
    /// Its value as text, masked if it is a secret.
    pub value: String,
    /// The origin.
    pub origin: Origin,
    /// Whether the value is masked.
    pub secret: bool,
}

/// Returns every setting in the table's order, then those of `storage.*` that are set.
pub(in crate::config) fn effective_settings(raw: &RawSettings) -> Vec<EffectiveSetting> {
    let table = SETTINGS.iter().map(|about| {
        let value = raw.effective_value(about);
        // An unset secret is not masked.
        let secret = is_secret(about.key) && !value.text.is_empty();
        (value, secret)
    });
    let storage = raw
        .storage()
        .map(|(name, value)| (value.clone(), storage::is_secret(name)));
    table
        .chain(storage)
        .map(|(value, secret)| EffectiveSetting {
            value: mask_value(&value.text, secret),
            key: value.key,
            origin: value.origin,
            secret,
        })
        .collect()
}
