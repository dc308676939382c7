//! A value that is never shown, which settings have one, and the files that have them.

use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, Origin};
use super::redact;
use super::storage;

/// What is at the end of a variable that names the file with a secret, as container engines hand them out.
pub(super) const FILE: &str = "_FILE";

/// A secret. `Debug` masks it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What it is, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::shown(&self.0, true))
    }
}

/// Whether the value of the setting `key` may have a secret in it: it is one, or a database's URL, which may have a password.
pub(super) fn may_be_secret(key: &str) -> bool {
    is_secret(key) || matches!(key, "organisation_url" | "mirror_url")
}

/// Whether the value of the setting `key` must never be shown.
pub(super) fn is_secret(key: &str) -> bool {
    match key.strip_prefix(storage::PREFIX) {
        Some(name) => storage::is_secret(name),
        // Who knows where failures are told can write there.
        None => key.ends_with("_api_key") || key == "schedule.webhook_url",
    }
}

/// What is in the file of a secret, which the variable `origin` names, without the line's end that editors add.
pub(super) fn read_file(path: &str, origin: &Origin) -> Result<String, ConfigError> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|source| ConfigError::SecretFile {
        origin: origin.clone(),
        path: PathBuf::from(path),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
