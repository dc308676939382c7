//! The location of a lake or of raw files, which masks the credentials of its URL.

use url::Url;

use crate::config::{redact, values as value};

/// The location of a lake or of raw files: a folder or a URL. `Debug` and `Display` mask the URL's credentials. It
/// dereferences to the original text, which is needed to open it.
#[derive(Clone, PartialEq, Eq)]
pub struct Location(String);

impl std::ops::Deref for Location {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&redact::mask_value(&self.0, false))
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", redact::mask_value(&self.0, false))
    }
}

impl Location {
    /// Parses the name of a folder, or a URL.
    pub(in crate::config) fn parse(text: &str) -> Result<Self, String> {
        value::check_not_empty(text)?;
        if text.contains("://") {
            Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        }
        Ok(Self(text.to_owned()))
    }
}
