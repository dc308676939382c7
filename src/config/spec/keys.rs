//! The names of settings: their keys, the variables that set them, and suggestions for misspelled ones.

use super::SETTINGS;
use super::setting::{ENVIRONMENT_PREFIX, RawSettings, RawValue, SettingSpec, environment_name};
use crate::config::error::{ConfigError, Origin};
use crate::config::spelling::nearest;
use crate::config::values::storage;

/// The meaning of a key.
pub(in crate::config) enum KnownKey {
    /// A setting in the table.
    Setting(&'static SettingSpec),
    /// One of `storage.*`, by its canonical key.
    Storage(String),
}

/// Returns the meaning of `key`; `None` if no setting has this name.
pub(in crate::config) fn find_key(key: &str) -> Option<KnownKey> {
    if let Some(about) = SETTINGS.iter().find(|about| about.key == key) {
        return Some(KnownKey::Setting(about));
    }
    let name = storage::canonical(key.strip_prefix(storage::PREFIX)?)?;
    Some(KnownKey::Storage(format!("{}{name}", storage::PREFIX)))
}

/// Returns the keys that are suggested for a misspelled one.
fn all_keys() -> impl Iterator<Item = String> {
    let storage = storage::KNOWN_OPTIONS
        .iter()
        .map(|(name, _)| format!("{}{name}", storage::PREFIX));
    SETTINGS
        .iter()
        .map(|about| about.key.to_owned())
        .chain(storage)
}

/// Returns the environment variable with the spelling most similar to `name`, which has no dots that mark a group.
pub(in crate::config) fn nearest_variable(name: &str) -> Option<String> {
    let written = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
    let written = written.to_lowercase();
    let whole = |key: &str| key.replace('.', "_");
    // Compares whole names first, then the names within groups.
    let by_whole = nearest(&written, '\0', all_keys().map(|key| whole(&key)));
    let by_whole = by_whole.and_then(|found| all_keys().find(|key| whole(key) == found));
    by_whole
        .or_else(|| nearest(&written, '.', all_keys()))
        .map(|key| environment_name(&key))
}

impl RawSettings {
    /// Adds a value; it replaces one of a source with lower precedence.
    pub(in crate::config) fn put(
        &mut self,
        key: &str,
        text: String,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let canonical = match find_key(key) {
            Some(KnownKey::Setting(about)) => about.key.to_owned(),
            Some(KnownKey::Storage(canonical)) => canonical,
            None => {
                let nearest = nearest(key, '.', all_keys());
                return Err(ConfigError::Unknown {
                    origin,
                    name: key.to_owned(),
                    nearest,
                });
            }
        };
        let value = RawValue {
            key: key.to_owned(),
            text,
            origin,
        };
        self.insert(canonical, value)
    }
}
