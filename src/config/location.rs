//! Where a lake or raw files are, without the credentials that its URL may have.

use url::Url;

use super::{redact, value};

/// Where a lake or raw files are: a folder or a URL. `Debug` and `Display` mask the URL's credentials; it dereferences to the
/// text as it was given, for the one who opens it.
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
        f.write_str(&redact::shown(&self.0, false))
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", redact::shown(&self.0, false))
    }
}

impl Location {
    /// Reads the name of a folder, or a URL.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        value::not_empty(text)?;
        if text.contains("://") {
            Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        }
        Ok(Self(text.to_owned()))
    }
}
