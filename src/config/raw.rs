//! Raw settings: known names and merged values, but still text.

use std::collections::BTreeMap;

use super::error::{ConfigError, InvalidValue, Origin};
use super::redact;
use super::secret;
use super::storage;
use super::table::{
    DefaultValue, ENVIRONMENT_PREFIX, SETTINGS, Setting, SettingSpec, environment_name,
};

/// A value with its origin.
#[derive(Debug, Clone)]
pub(super) struct RawValue {
    /// The setting, as its source spells it (`storage.*` has synonyms).
    pub(super) key: String,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// The merged values of all sources.
#[derive(Debug, Clone, Default)]
pub struct RawSettings {
    /// The values by canonical key.
    values: BTreeMap<String, RawValue>,
}

/// The meaning of a key.
pub(super) enum KnownKey {
    /// A setting in the table.
    Setting(&'static SettingSpec),
    /// One of `storage.*`, by its canonical key.
    Storage(String),
}

/// Returns the meaning of `key`; `None` if no setting has this name.
pub(super) fn find_key(key: &str) -> Option<KnownKey> {
    if let Some(about) = SETTINGS.iter().find(|about| about.key == key) {
        return Some(KnownKey::Setting(about));
    }
    let name = storage::canonical(key.strip_prefix(storage::PREFIX)?)?;
    Some(KnownKey::Storage(format!("{}{name}", storage::PREFIX)))
}

/// Returns the keys that are suggested for a misspelled one.
pub(super) fn all_keys() -> impl Iterator<Item = String> {
    let storage = storage::KNOWN_OPTIONS
        .iter()
        .map(|(name, _)| format!("{}{name}", storage::PREFIX));
    SETTINGS
        .iter()
        .map(|about| about.key.to_owned())
        .chain(storage)
}

/// The minimum similarity of a misspelled name and its suggestion, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.5;

/// Returns the candidate with the spelling most similar to `name`, if any is similar enough.
///
/// `separator` separates a group from its settings, so that a missing group (`memory`) gets a suggestion too.
pub(super) fn nearest(
    name: &str,
    separator: char,
    candidates: impl Iterator<Item = String>,
) -> Option<String> {
    let last = |text: &str| text.rsplit(separator).next().unwrap_or_default().to_owned();
    let similarity = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, candidate);
        let end = strsim::normalized_damerau_levenshtein(&last(name), &last(candidate));
        // A match of the last part alone counts slightly less than one of the whole.
        whole.max(0.9 * end)
    };
    let similarities = candidates.map(|candidate| (similarity(&candidate), candidate));
    similarities
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness >= MIN_SIMILARITY)
        .map(|(_, candidate)| candidate)
}

/// Returns the environment variable with the spelling most similar to `name`, which has no dots that mark a group.
pub(super) fn nearest_variable(name: &str) -> Option<String> {
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
    pub(super) fn put(
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
        if let Some(first) = self.values.get(&canonical)
            && first.origin.is_same_source(&origin)
        {
            let (name, first) = (key.to_owned(), first.origin.clone());
            return Err(ConfigError::Duplicate {
                origin,
                name,
                first,
            });
        }
        self.values.insert(
            canonical,
            RawValue {
                key: key.to_owned(),
                text,
                origin,
            },
        );
        Ok(())
    }

    /// Returns the origin of the value of `key`, if it is set.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|value| &value.origin)
    }

    /// Returns the value in force; the default if it is not set.
    pub(super) fn effective_value(&self, about: &SettingSpec) -> RawValue {
        self.values
            .get(about.key)
            .cloned()
            .unwrap_or_else(|| RawValue {
                key: about.key.to_owned(),
                text: match about.default {
                    DefaultValue::Fixed(text) => text.to_owned(),
                    DefaultValue::Derived { rule, .. } => rule(self),
                },
                origin: Origin::Default,
            })
    }

    /// Returns the value in force, validated.
    pub(super) fn get<T>(&self, setting: &Setting<T>) -> Result<T, ConfigError> {
        let value = self.effective_value(&setting.spec);
        (setting.parse)(&value.text).map_err(|problem| {
            ConfigError::from(InvalidValue {
                origin: value.origin,
                key: value.key,
                found: format!(
                    "{:?}",
                    redact::mask_value(&value.text, secret::is_secret(setting.spec.key))
                ),
                problem,
                expected: setting.spec.expected,
            })
        })
    }

    /// Returns all of `storage.*`: the canonical name without the prefix, and the value.
    pub(super) fn storage(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.values
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(storage::PREFIX)?, value)))
    }
}
