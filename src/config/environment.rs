//! The environment: `PLANTLAKE_RESAMPLE_MEMORY` is `resample.memory`.

use super::Inputs;
use super::error::{ConfigError, Origin};
use super::original::{self, Parts};
use super::raw::{self, RawSettings, known};
use super::table::{ENVIRONMENT_PREFIX, SETTINGS, environment_name};

/// Debug builds read these to fail on purpose; they are no settings.
const FAILPOINTS: &str = "PLANTLAKE_FAILPOINT";
/// What the variables of `storage.*` begin with.
const STORAGE: &str = "PLANTLAKE_STORAGE_";

/// Reads the process's variables.
pub(super) fn read(
    inputs: &Inputs,
    raw: &mut RawSettings,
    parts: &mut Parts,
) -> Result<(), ConfigError> {
    let mut variables: Vec<_> = inputs
        .environment
        .iter()
        .map(|(name, value)| (name.to_string_lossy(), value))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX) || original::is_known(name))
        .collect();
    // The environment has no order: with one, the same mistake gives the same message.
    variables.sort();
    for (name, value) in variables {
        let origin = Origin::Environment(name.clone().into_owned());
        let Some(value) = value.to_str() else {
            let message = "the value is not Unicode text".to_owned();
            return Err(ConfigError::Syntax { origin, message });
        };
        if original::is_known(&name) {
            parts.put(&name, value.to_owned(), origin);
        } else {
            put(&name, value.to_owned(), origin, raw)?;
        }
    }
    parts.settle(raw, |origin| matches!(origin, Origin::Environment(_)))
}

/// Takes over the variable `name`, which begins with the prefix.
pub(super) fn put(
    name: &str,
    value: String,
    origin: Origin,
    raw: &mut RawSettings,
) -> Result<(), ConfigError> {
    if name.starts_with(FAILPOINTS) {
        return Ok(());
    }
    let storage = || {
        name.strip_prefix(STORAGE)
            .map(|rest| format!("storage.{}", rest.to_lowercase()))
    };
    let key = match SETTINGS
        .iter()
        .find(|about| about.environment_name() == name)
    {
        Some(about) => Some(about.key.to_owned()),
        None => storage().filter(|key| known(key).is_some()),
    };
    match key {
        Some(key) => raw.put(&key, value, origin),
        None => Err(ConfigError::Unknown {
            origin,
            name: name.to_owned(),
            nearest: raw::nearest(name, '_', raw::all_keys().map(|key| environment_name(&key))),
        }),
    }
}
