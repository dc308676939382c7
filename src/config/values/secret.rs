//! Secret values, the settings that have one, and the files that contain them.

use std::fmt;
use std::path::{Path, PathBuf};

use super::storage;
use crate::config::error::{ConfigError, Origin};
use crate::config::redact;
use crate::model::read_text;

/// The suffix of a variable that names the file of a secret, as container engines provide them.
pub(in crate::config) const FILE_SUFFIX: &str = "_FILE";

/// A secret. `Debug` masks it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(in crate::config) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the secret in clear text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::mask_value(&self.0, true))
    }
}

/// Whether the value of the setting `key` may contain a secret: it is one, or a database URL, which may have a password.
pub(in crate::config) fn may_be_secret(key: &str) -> bool {
    is_secret(key) || matches!(key, "organisation_url" | "mirror_url")
}

/// Whether the value of the setting `key` must never be shown.
pub(in crate::config) fn is_secret(key: &str) -> bool {
    match key.strip_prefix(storage::PREFIX) {
        Some(name) => storage::is_secret(name),
        // Anyone who knows the webhook can write there.
        None => key.ends_with("_api_key") || key == "schedule.webhook_url",
    }
}

/// Reads a secret from the file that the variable `origin` names, without the line break that editors append.
pub(in crate::config) fn read_file(path: &str, origin: &Origin) -> Result<String, ConfigError> {
    let read = read_text(Path::new(path));
    let text = read.map_err(|source| ConfigError::SecretFile {
        origin: origin.clone(),
        path: PathBuf::from(path),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
