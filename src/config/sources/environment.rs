//! The environment: `PLANTLAKE_RESAMPLE_MEMORY` is `resample.memory`; `PLANTLAKE_QDRANT_API_KEY_FILE` names the file that
//! contains `qdrant_api_key`.

use super::inputs::Inputs;
use super::legacy_variables::{self, LegacyVariables};
use crate::config::error::{ConfigError, Origin};
use crate::config::spec::SETTINGS;
use crate::config::spec::keys::{find_key, nearest_variable};
use crate::config::spec::setting::{ENVIRONMENT_PREFIX, RawSettings};
use crate::config::values::secret;
use crate::config::values::secret::FILE_SUFFIX;

/// The prefix of the variables that make debug builds fail on purpose. They are not settings.
const FAILPOINT_PREFIX: &str = "PLANTLAKE_FAILPOINT";
/// The prefix of the variables for `storage.*`.
const STORAGE_PREFIX: &str = "PLANTLAKE_STORAGE_";

/// Reads the variables of the process.
pub(in crate::config) fn read(
    inputs: &Inputs,
    raw: &mut RawSettings,
    parts: &mut LegacyVariables,
) -> Result<(), ConfigError> {
    let mut variables: Vec<_> = inputs
        .environment
        .iter()
        .map(|(name, value)| (name.to_string_lossy(), value))
        .filter(|(name, _)| {
            name.starts_with(ENVIRONMENT_PREFIX) || legacy_variables::is_known(name)
        })
        .collect();
    // The environment has no order. Sorting makes the error message deterministic.
    variables.sort();
    for (name, value) in variables {
        let origin = Origin::Environment(name.clone().into_owned());
        let Some(value) = value.to_str() else {
            let message = "the value is not Unicode text".to_owned();
            return Err(ConfigError::Syntax { origin, message });
        };
        if legacy_variables::is_known(&name) {
            parts.put(&name, value.to_owned(), origin)?;
        } else {
            put(&name, value.to_owned(), origin, raw)?;
        }
    }
    parts.assemble_urls(raw, |origin| matches!(origin, Origin::Environment(_)))
}

/// Adds the variable `name`, which begins with the prefix.
pub(in crate::config) fn put(
    name: &str,
    value: String,
    origin: Origin,
    raw: &mut RawSettings,
) -> Result<(), ConfigError> {
    if name.starts_with(FAILPOINT_PREFIX) {
        return Ok(());
    }
    if let Some(key) = setting_key(name) {
        return raw.put(&key, value, origin);
    }
    let in_file = name.strip_suffix(FILE_SUFFIX).and_then(setting_key);
    match in_file.filter(|key| secret::may_be_secret(key)) {
        Some(key) => raw.put(&key, secret::read_file(&value, &origin)?, origin),
        None => Err(ConfigError::Unknown {
            origin,
            name: name.to_owned(),
            nearest: nearest_variable(name),
        }),
    }
}

/// Returns the key of the setting that the variable `name` sets.
fn setting_key(name: &str) -> Option<String> {
    let about = SETTINGS
        .iter()
        .find(|about| about.environment_name() == name);
    if let Some(about) = about {
        return Some(about.key.to_owned());
    }
    let key = format!(
        "storage.{}",
        name.strip_prefix(STORAGE_PREFIX)?.to_lowercase()
    );
    find_key(&key).is_some().then_some(key)
}
